"""Autoreset: one function for each of Gymnasium's modes steps the envs and resets the finished ones.

"next_step": the step after the end ignores the action, starts the next episode and has reward 0;
"same_step": the next episode starts within the step. `info` is that of the new episode, and the last
  observation and info of the finished one are in `info["final_obs"]` and `info["final_info"]`;
"disabled": the env stands still, at no cost, until `reset(options={"reset_mask": done})`.

Each function takes a `TaskCore`, actions (n, action_dim), which it may overwrite, and `done` (n,): whose
episode was over before the step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from gymnasium.vector import AutoresetMode

from simscaleai.array_types import Array, BoolArray, EnvIds, FloatArray
from simscaleai.errors import unknown_name
from simscaleai.sim.core import TaskCore
from simscaleai.sim.env_types import InfoDict, ObsDict

StepResult = tuple[ObsDict, FloatArray, BoolArray, BoolArray, InfoDict]


def next_step(core: TaskCore, actions: FloatArray, done: BoolArray) -> StepResult:
    """Start the next episode of envs that were `done`, and step the others."""
    begun = done.nonzero()[0]  # three times as fast as the function of the same name
    core.step(actions, _moving(done, begun))
    if begun.size:
        core.begin_next(begun)
        actions[begun] = 0.0  # not executed, so no reward term may charge for it
    core.measure(actions)
    reward, terminated, truncated = core.reward(), core.terminated(), core.truncated()
    if begun.size:
        # a start may already meet the goal; Gymnasium's reset step neither rewards nor ends
        reward[begun], terminated[begun] = 0.0, False
    info = vector_info(core, done if begun.size else None)
    return core.observe(), reward, terminated, truncated, info


def same_step(core: TaskCore, actions: FloatArray, done: BoolArray) -> StepResult:
    """Step all envs, and start the next episode of those whose episode ended with this step."""
    core.step(actions)
    core.measure(actions)
    reward, terminated, truncated = core.reward(), core.terminated(), core.truncated()
    obs, info = core.observe(), vector_info(core)
    ended = terminated | truncated
    if ended.any():
        last = final_info(obs, info, ended)  # before the reset overwrites the state
        begun = np.flatnonzero(ended)
        core.begin_next(begun)
        actions[begun] = 0.0
        core.measure(actions)
        # images only of the envs whose state has changed since the observation above
        obs, info = core.observe(begun), vector_info(core, ended) | last
    return obs, reward, terminated, truncated, info


def disabled(core: TaskCore, actions: FloatArray, done: BoolArray) -> StepResult:
    """Step the envs that are not `done`; the others keep their state."""
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


STEP: dict[AutoresetMode, Callable[[TaskCore, FloatArray, BoolArray], StepResult]] = {
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


def vector_info(core: TaskCore, begun: BoolArray | None = None) -> InfoDict:
    """Return `core.info()` with a mask `_key` (n,) for every key, as Gymnasium's vector environments give it.

    Args:
      begun: (n,), whose episode has just started: `seed` and `randomization` are in the info of those.
    """
    info = core.info()
    everyone = np.ones(core.sim.n, dtype=bool)  # one array for all keys: infos are not written to
    info.update({f"_{key}": everyone for key in list(info)})
    if begun is not None:
        info["seed"], info["_seed"] = np.array(core.seeds, dtype=np.int64), begun
        if core.randomizer is not None:
            info["randomization"] = {name: value.copy() for name, value in core.draws.items()}
            info["_randomization"] = begun
    return info


def final_info(obs: ObsDict, info: InfoDict, done: BoolArray) -> InfoDict:
    """Return the last observation and info of envs that are `done` (n,), laid out as Gymnasium does.

    Args:
      obs: {key: (n, ...)}, the last observations.
      info: the step's info, with a mask `_key` for every `key`.

    Returns:
      `final_obs`, an object array (n,) of one observation for each env that is done and None for the
      others; `final_info`, like `info`, where the masks are `done`; and the masks of both.
    """
    last: Array = np.full(len(done), None, dtype=object)
    for env_id in np.flatnonzero(done):
        last[env_id] = {key: value[env_id] for key, value in obs.items()}
    finals = {key: done if key.startswith("_") else value for key, value in info.items()}
    return {"final_obs": last, "_final_obs": done, "final_info": finals, "_final_info": done}


def _moving(done: BoolArray, over: EnvIds) -> EnvIds | None:
    """Return the envs that step; None, which is faster, for all."""
    return np.flatnonzero(~done) if over.size else None
