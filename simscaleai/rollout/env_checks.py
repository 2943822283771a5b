"""Check that environments of other packages behave as Gymnasium's, and report in one sentence if not."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from simscaleai.array_types import FloatArray, IntArray
from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.observations import as_array, observation_leaves
from simscaleai.rollout.gym_types import GymEnv, Info, Obs
from simscaleai.sim.base_env import BaseRobotEnv
from simscaleai.sim.task import Task
from simscaleai.sim.vector_env import TaskVectorEnv

ResetOptions = dict[str, object]
"""Argument `options` of `env.reset`."""


def task_of(env: GymEnv) -> Task | None:
    """Return the `Task` of an environment of this package; None for others, which may have another `task`."""
    found = getattr(getattr(env, "unwrapped", env), "task", None)
    return found if isinstance(found, Task) else None


def takes_long_seeds(env: GymEnv) -> bool:
    """Return whether an environment takes seeds of 63 bits: it is, or contains, one of this package."""
    if isinstance(getattr(env, "unwrapped", env), BaseRobotEnv | TaskVectorEnv):
        return True
    metadata = getattr(env, "metadata", None) or {}
    # Gymnasium's vector environments have the metadata of their first env
    return bool(metadata.get("seed_bits", 31) >= 63)


def check_env(env: GymEnv) -> None:
    """Raise UserError unless `env` has the interface of a Gymnasium environment."""
    for method in ("reset", "step"):
        if isinstance(env, type) or not callable(getattr(env, method, None)):
            raise UserError(
                f"env is {env!r}, which has no {method}; give a Gymnasium environment, such as"
                " make_env('reach')."
            )
    try:
        inspect.signature(env.reset).bind(seed=0)
    except TypeError:
        raise UserError(
            f"reset of {name_of(env)!r} takes no seed, as Gymnasium's does; wrap it into an environment of"
            " Gymnasium's present interface."
        ) from None
    except ValueError:  # a function written in C has no signature
        pass


def reset_all(env: GymEnv, seeds: list[int], options: ResetOptions | None) -> tuple[Obs, Info]:
    """Reset a vector environment with one seed per env, or with the first seed if it takes only one.

    In that case, every entry of `seeds` is the first one afterwards.
    """
    try:
        return env.reset(seed=list(seeds), options=options)
    except (TypeError, ValueError, gymnasium.error.Error):
        # these take a list, so that the error is about something else
        if isinstance(env.unwrapped, TaskVectorEnv | SyncVectorEnv | AsyncVectorEnv):
            raise
    seeds[:] = [seeds[0]] * len(seeds)
    return env.reset(seed=seeds[0], options=options)


def check_finite(
    obs: Obs,
    env: GymEnv,
    steps: IntArray,
    index: IntArray,
    seeds: Sequence[int],
    batched: bool = True,
) -> None:
    """Raise UserError for NaN in the observation of a running episode.

    Args:
      obs: observation of all envs, or of a single environment.
      env: the environment, for the error.
      steps, index, seeds: of the episode in each env, (n,) each; the index is -1 for an env without one.
      batched: whether `obs` is that of a vector environment.
    """
    for key, value in observation_leaves(obs).items():
        try:
            array = as_array(value)
        except (TypeError, ValueError):  # lists of different lengths, or no numbers
            continue
        if array.dtype.kind != "f" or not (wrong := np.isnan(array)).any():
            continue
        # without a leading axis of envs, the NaN may belong to any running episode
        apart = batched and array.shape[:1] == index.shape
        in_env = wrong.reshape(len(index), -1).any(1) if apart else np.ones(len(index), dtype=bool)
        for i in np.flatnonzero(in_env & (index >= 0)):
            raise UserError(
                f"The environment {name_of(env)!r} gave NaN in the observation {key!r} after step"
                f" {steps[i]} of episode {index[i]} (seed {seeds[int(i)]}); no policy can act on that."
            )


def name_of(env: GymEnv) -> str:
    """Return the name of an environment for an error."""
    contract = EnvContract.of(env)
    if contract is not None:
        return contract.env_name
    spec = getattr(env, "spec", None)
    return getattr(spec, "id", None) or type(getattr(env, "unwrapped", env)).__name__


def entries(returned: object, count: int, method: str, env: GymEnv) -> Any:
    """Return the result of `reset` or `step` if it is a tuple of `count`; UserError if not."""
    if isinstance(returned, tuple) and len(returned) == count:
        return returned
    found = f"{len(returned)} values" if isinstance(returned, tuple) else type(returned).__name__
    raise UserError(
        f"{method} of {name_of(env)!r} returned {found} and not {count} values as Gymnasium's; wrap it"
        " into an environment of Gymnasium's present interface, for example with the package shimmy."
    )


def as_rewards(value: object, n: int, env: GymEnv) -> FloatArray:
    """Return rewards (n,) from a number or array; UserError for anything else."""
    rewards = as_array(value)
    if rewards.size != n or rewards.dtype.kind not in "biuf":
        raise UserError(
            f"The environment {name_of(env)!r} gave the reward {value!r}; it must be one number."
        )
    return rewards.reshape(n).astype(np.float64)
