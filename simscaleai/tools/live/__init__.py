"""`viz-live`: watch a policy control the robot, in a window or in a browser.

view_live("pick_place", "scripted")
view_live(policy="checkpoints/final.pt", web=True)
"""

from __future__ import annotations

from collections.abc import Mapping

from simscaleai.convert import converted
from simscaleai.errors import UserError
from simscaleai.rollout.policy_source import PolicySource, find_policy_source
from simscaleai.sim.base_env import SimConfig
from simscaleai.sim.factory import make_env
from simscaleai.sim.task_env import TaskEnv
from simscaleai.tools.live.player import Player

__all__ = ["Player", "load_player", "view_live"]


@converted
def view_live(
    env_name: str | None = None,
    policy: str = "scripted",
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
      policy: "scripted" (the expert), "random", a checkpoint, a run, or a function "module:function".
      seed: seed of the episodes, as in `simscale eval --seed`.
      speed: simulated seconds per second.
      web: serve MuJoCo's browser viewer instead of opening a window.
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
    source = find_policy_source(policy, env_name, robot=robot, env_kwargs=env_kwargs)
    player = _player(source, seed, speed)
    title = f"{player.env.task.name} | {source.title}"
    try:
        # either viewer imports libraries that the other does not need
        if web:
            from simscaleai.tools.live.web import serve

            serve(player, title, host, port)
        else:
            from simscaleai.tools.live.native_viewer import show_in_window

            show_in_window(player, title)
    except KeyboardInterrupt:  # the usual way to stop it
        pass
    finally:
        player.env.close()  # releases the renderer of a policy that reads images
    return player


def load_player(env_name: str | None, policy: str, seed: int = 0, speed: float = 1.0) -> Player:
    """Return the player of a policy source in a compatible environment."""
    return _player(find_policy_source(policy, env_name), seed, speed)


def _player(source: PolicySource, seed: int, speed: float) -> Player:
    env = _task_env(source.env_name, source.config)
    return Player(env, source.policy(env), seed, speed)


def _task_env(name: str, config: SimConfig) -> TaskEnv:
    env = make_env(name, config=config)
    if not isinstance(env, TaskEnv):
        raise UserError(
            f"The environment {name!r} has no Task, and so no expert and no contract with a policy; show"
            " it with make_env(name, render_mode='human')."
        )
    return env
