"""What is asked of environments of other packages, and what is said where they do otherwise."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from numpy.typing import NDArray

from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.observations import as_array, observation_parts
from simscaleai.sim.base_env import BaseRobotEnv
from simscaleai.sim.task import Task
from simscaleai.sim.vector_env import TaskVectorEnv


def task_of(env: Any) -> Task | None:
    """The `Task` of an environment of this package; None for others, whatever they call `task`."""
    found = getattr(getattr(env, "unwrapped", env), "task", None)
    return found if isinstance(found, Task) else None


def takes_long_seeds(env: Any) -> bool:
    """Whether an environment is known to take seeds of 63 bits: it is of this package, or holds such."""
    if isinstance(getattr(env, "unwrapped", env), BaseRobotEnv | TaskVectorEnv):
        return True
    metadata = getattr(env, "metadata", None) or {}
    return bool(
        metadata.get("seed_bits", 31) >= 63
    )  # of Gymnasium's vectors, that of their first env


def check_env(env: Any) -> None:
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
    except ValueError:  # a function written in C tells nothing of its arguments
        pass


def reset_all(env: Any, seeds: list[int], options: dict[str, Any] | None) -> Any:
    """Reset a vector environment with a seed for each env, or for all of them where it takes but one.

    Such a one is in every entry of `seeds` afterwards.
    """
    try:
        return env.reset(seed=list(seeds), options=options)
    except (TypeError, ValueError, gymnasium.error.Error):
        if isinstance(env.unwrapped, TaskVectorEnv | SyncVectorEnv | AsyncVectorEnv):
            raise
    seeds[:] = [seeds[0]] * len(seeds)
    return env.reset(seed=seeds[0], options=options)


def check_finite(
    obs: Any,
    env: Any,
    steps: NDArray[np.int64],
    index: NDArray[np.int64],
    seeds: Sequence[int],
    batched: bool = True,
) -> None:
    """Raise UserError for NaN in an observation that a running episode goes on from.

    Args:
      obs: of all envs, or of a single one.
      env: who gave it.
      steps, index, seeds: of the episode in each env, whose index is -1 where there is none.
      batched: whether `obs` is of a vector environment.
    """
    for key, value in observation_parts(obs).items():
        try:
            array = as_array(value)
        except (TypeError, ValueError):  # lists of different lengths, or no numbers
            continue
        if array.dtype.kind != "f" or not (wrong := np.isnan(array)).any():
            continue
        apart = batched and array.shape[:1] == index.shape
        rows = wrong.reshape(len(index), -1).any(1) if apart else np.ones(len(index), dtype=bool)
        for row in np.flatnonzero(rows & (index >= 0)):
            raise UserError(
                f"The environment {name_of(env)!r} gave NaN in the observation {key!r} after step"
                f" {steps[row]} of episode {index[row]} (seed {seeds[int(row)]}); no policy can act on that."
            )


def name_of(env: Any) -> str:
    """What to call an environment in an error."""
    contract = EnvContract.of(env)
    if contract is not None:
        return contract.env_name
    spec = getattr(env, "spec", None)
    return getattr(spec, "id", None) or type(getattr(env, "unwrapped", env)).__name__


def entries(returned: Any, count: int, method: str, env: Any) -> Any:
    if isinstance(returned, tuple) and len(returned) == count:
        return returned
    found = f"{len(returned)} values" if isinstance(returned, tuple) else type(returned).__name__
    raise UserError(
        f"{method} of {name_of(env)!r} returned {found} and not {count} values as Gymnasium's; wrap it"
        " into an environment of Gymnasium's present interface, for example with the package shimmy."
    )


def as_rewards(value: Any, n: int, env: Any) -> NDArray[np.float64]:
    """Rewards (n,) out of numbers or arrays of one."""
    rewards = as_array(value)
    if rewards.size != n or rewards.dtype.kind not in "biuf":
        raise UserError(
            f"The environment {name_of(env)!r} gave the reward {value!r}; it must be one number."
        )
    return rewards.reshape(n).astype(np.float64)
