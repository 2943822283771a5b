"""`viz-live`: watch a policy control the robot, in a window or in a browser.

view_live("pick_place", "scripted")
view_live(policy=["runs/a", "runs/b"], web=True)      # a page to type instructions and choose policies
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

from simscaleai.convert import converted
from simscaleai.errors import MissingPackageError, UserError
from simscaleai.tools.live.player import Player
from simscaleai.tools.live.policy_menu import Policies

__all__ = ["Player", "load_player", "view_live"]


@converted
def view_live(
    env_name: str | None = None,
    policy: str | Sequence[str] = "scripted",
    *,
    seed: int = 0,
    speed: float = 1.0,
    web: bool = False,
    host: str = "127.0.0.1",
    port: int = 8080,
    robot: str | None = None,
    env_kwargs: Mapping[str, object] | None = None,
) -> Player:
    """Show one episode after the other until the viewer is closed or Ctrl-C is pressed.

    Args:
      env_name: name of the environment; None for that of the checkpoint, or "reach" for other policies.
      policy: "scripted" (the expert), "random", a checkpoint, a run, a function "module:function" or a
        server. With `web`, also several of them, and folders of runs: a menu on the page switches.
      seed: seed of the episodes, as in `simscale eval --seed`.
      speed: simulated seconds per second.
      web: serve MuJoCo's browser viewer instead of opening a window, below a field for instructions.
      host: address of this machine to listen at; other machines can reach any except a loopback address.
      port: port to listen at; 0 for any free one.
      robot: name of a robot; None for that of the checkpoint, or the Panda for other policies.
      env_kwargs: further fields of `SimConfig`.

    Returns:
      The player, with the number of episodes and successes.

    Raises:
      UserError: the environment or policy is unknown, they are incompatible, there is no display, or the
        address cannot be used.
    """
    if not 0.01 <= speed <= 100:
        raise UserError(f"speed is {speed}; it must be between 0.01 and 100.")
    if web and importlib.util.find_spec("mujoco.studio") is None:  # before a policy is loaded
        raise MissingPackageError(
            "viz-live --web needs MuJoCo's browser viewer, which is not installed: pip install"
            " 'simscaleai[viz]'."
        )
    names = [policy] if isinstance(policy, str) else list(policy)
    policies = Policies(names, env_name, robot, env_kwargs)
    if len(policies.names) > 1 and not web:
        raise UserError(
            f"A window shows one policy, and there are {len(policies.names)}; give --web for a page with a"
            " menu."
        )
    player = Player(*policies.load(0), seed, speed)
    try:
        # either viewer imports libraries that the other does not need
        if web:
            from simscaleai.tools.live.web import serve

            serve(player, policies, host, port)
        else:
            from simscaleai.tools.live.native_viewer import show_in_window

            show_in_window(player, policies.title)
    except KeyboardInterrupt:  # the usual way to stop it
        pass
    finally:
        policies.close()
    return player


def load_player(env_name: str | None, policy: str, seed: int = 0, speed: float = 1.0) -> Player:
    """Return the player of a policy source in a compatible environment."""
    return Player(*Policies([policy], env_name).load(0), seed, speed)
