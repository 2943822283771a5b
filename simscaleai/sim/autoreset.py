"""How a vector environment continues an env whose episode is over: one function for each mode of Gymnasium.

"next_step": its next step ignores the action, starts the next episode and rewards 0;
"same_step": it starts at once. `info` is that of the new episode, and what the finished one showed last
  is in `info["final_obs"]` and `info["final_info"]`, see `final_info`;
"disabled": it stands still, at no cost, until `reset(options={"reset_mask": done})`.

Each function takes one step of a `TaskCore` for actions (n, action_dim), which it may change, and for
`done` (n,), which says whose episode was over before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from simscaleai.errors import unknown_name
from simscaleai.sim.core import ObsDict, TaskCore
from simscaleai.sim.physics import EnvIds

Flags = NDArray[np.bool_]
StepResult = tuple[ObsDict, NDArray[np.float64], Flags, Flags, dict[str, Any]]


def next_step(core: TaskCore, actions: NDArray[np.float64], done: Flags) -> StepResult:
    """Step the others, and start the next episode of envs that were `done`."""
    begun = done.nonzero()[0]  # three times as fast as the function of the same name
    core.step(actions, _moving(done, begun))
    if begun.size:
        core.begin_next(begun)
        actions[begun] = 0.0
    core.measure(actions)
    reward, terminated, truncated = core.reward(), core.terminated(), core.truncated()
    if begun.size:
        reward[begun], terminated[begun] = 0.0, False
    info = vector_info(core, done if begun.size else None)
    return core.observe(), reward, terminated, truncated, info


def same_step(core: TaskCore, actions: NDArray[np.float64], done: Flags) -> StepResult:
    """Step all, and start the next episode of envs whose episode that has ended."""
    core.step(actions)
    core.measure(actions)
    reward, terminated, truncated = core.reward(), core.terminated(), core.truncated()
    obs, info = core.observe(), vector_info(core)
    ended = terminated | truncated
    if ended.any():
        last = final_info(obs, info, ended)
        begun = np.flatnonzero(ended)
        core.begin_next(begun)
        actions[begun] = 0.0
        core.measure(actions)
        obs, info = core.observe(begun), vector_info(core, ended) | last
    return obs, reward, terminated, truncated, info


def disabled(core: TaskCore, actions: NDArray[np.float64], done: Flags) -> StepResult:
    """Step the others, and leave envs that are `done` where they are."""
    still = done.nonzero()[0]
    moving = _moving(done, still)
    core.step(actions, moving)
    if still.size:
        actions[still] = 0.0
    core.measure(actions)
    reward, terminated, truncated = core.reward(), core.terminated(), core.truncated()
    if still.size:
        reward[still] = 0.0
    return core.observe(moving), reward, terminated, truncated, vector_info(core)


STEP: dict[AutoresetMode, Callable[[TaskCore, NDArray[np.float64], Flags], StepResult]] = {
    AutoresetMode.NEXT_STEP: next_step,
    AutoresetMode.SAME_STEP: same_step,
    AutoresetMode.DISABLED: disabled,
}


def find_autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    """Return the mode for Gymnasium's enum, its name in any case ("same_step"), or its value ("SameStep").

    Raises:
      UserError: no such mode.
    """
    if isinstance(mode, AutoresetMode):
        return mode
    for known in AutoresetMode:
        if known.name == str(mode).upper() or known.value == mode:
            return known
    raise unknown_name("autoreset mode", str(mode), [known.name.lower() for known in AutoresetMode])


def vector_info(core: TaskCore, begun: Flags | None = None) -> dict[str, Any]:
    """Return `core.info()` with a mask `_key` (n,) for every key, as Gymnasium's vector environments give it.

    Args:
      begun: (n,), whose episode has just started: `seed` and `randomization` are in the info of those.
    """
    info = core.info()
    everyone = np.ones(core.sim.n, dtype=bool)
    info.update({f"_{key}": everyone for key in list(info)})
    if begun is not None:
        info["seed"], info["_seed"] = np.array(core.seeds, dtype=np.int64), begun
        if core.randomizer is not None:
            info["randomization"] = {name: value.copy() for name, value in core.draws.items()}
            info["_randomization"] = begun
    return info


def final_info(obs: ObsDict, info: Mapping[str, Any], done: Flags) -> dict[str, Any]:
    """Return what envs that are `done` (n,) showed last, as Gymnasium's own vector environments give it.

    Args:
      obs: {key: (n, ...)}, the last observations.
      info: the step's info, with a mask `_key` for every `key`.

    Returns:
      `final_obs`, an object array (n,) of one observation for each env that is done and None for the
      others; `final_info`, like `info`, where the masks are `done`; and the masks of both.
    """
    last: NDArray[Any] = np.full(len(done), None, dtype=object)
    for env_id in np.flatnonzero(done):
        last[env_id] = {key: value[env_id] for key, value in obs.items()}
    finals = {key: done if key.startswith("_") else value for key, value in info.items()}
    return {"final_obs": last, "_final_obs": done, "final_info": finals, "_final_info": done}


def _moving(done: Flags, over: EnvIds) -> EnvIds | None:
    """The envs that step; None, which is faster, for all."""
    return np.flatnonzero(~done) if over.size else None
