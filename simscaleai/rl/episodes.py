"""Running a fixed suite of episodes, many at once, and what is remembered of each.

Evaluation episode i of seed s starts from `episode_seed(s, i)`, a stream of its own: no episode of a
dataset starts there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscaleai import seeding

DIVERGED = "diverged"
"""The stage of episodes that ended since their physics became unstable, of any environment that says so in
its info; they are failures, whatever came before."""


@dataclass(frozen=True)
class EpisodeResult:
    """One evaluated episode.

    Attributes:
      index: its number in the suite.
      seed: what its environment was reset with.
      success: whether it succeeded at any step.
      success_at_end: whether it did at its last step.
      reward: sum of rewards.
      length: control steps.
      stage: where it failed, one of the task's `stages`, or `DIVERGED`; None for a success or a task
        without stages.
      group: which of the task's `groups` it belongs to; None without.
      language: what the policy was told.
    """

    index: int
    seed: int
    success: bool
    success_at_end: bool
    reward: float
    length: int
    stage: str | None
    group: str | None = None
    language: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def episode_seed(seed: int, index: int) -> int:
    """The seed of evaluation episode `index` of suite `seed`."""
    return seeding.derive_seed(seed, "evaluation", index)


class Seen:
    """What the infos of n running episodes showed so far.

    `summary()` gives {key: last value, "ever_<flag>": whether it was ever up, "min_<number>": the
    smallest}, each (n,).
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._last: dict[str, NDArray[Any]] = {}
        self._best: dict[str, NDArray[Any]] = {}

    def add(self, info: Mapping[str, Any], fresh: NDArray[np.bool_]) -> None:
        """Take in the infos {key: (n,)} of a step; rows in `fresh` (n,) bool begin with it."""
        for key, value in info.items():
            if key.startswith("_") or not isinstance(value, np.ndarray):
                continue
            if value.shape != (self._n,) or value.dtype.kind not in "bif":
                continue
            flag = value.dtype.kind == "b"
            name = ("ever_" if flag else "min_") + key
            old = self._best.get(name, value)
            best = (old | value) if flag else np.minimum(old, value)
            self._best[name] = np.where(fresh, value, best)
            self._last[key] = value.copy()

    def summary(self) -> dict[str, NDArray[Any]]:
        return {**self._last, **self._best}


def run_batch(
    env: Any,
    act: Callable[[dict[str, NDArray[Any]]], NDArray[Any]],
    seeds: Sequence[int],
    max_steps: int,
    on_reset: Callable[[NDArray[np.bool_], Sequence[int]], None] = lambda mask, seeds: None,
) -> Iterator[EpisodeResult]:
    """Run one episode for each of `seeds` on the rows of a vector environment with autoreset disabled.

    Args:
      env: a `TaskVectorEnv`.
      act: observations {key: (n, ...)} to actions (n, action_dim).
      max_steps: control steps after which an episode is over, besides the environment's own limit.
      on_reset: called with the rows that begin an episode, (n,) bool, and all rows' seeds.

    Yields:
      Results as episodes end, in no particular order.
    """
    n = env.num_envs
    index = np.full(n, -1)  # the episode in each row; -1: none
    row_seeds = [int(seeds[0])] * n
    told = [""] * n
    reward = np.zeros(n)
    length = np.zeros(n, dtype=np.int64)
    seen = Seen(n)
    waiting = 0
    first = True
    while True:
        free = index < 0
        for row in np.flatnonzero(free)[: len(seeds) - waiting]:
            index[row], row_seeds[row] = waiting, int(seeds[waiting])
            waiting += 1
        begun = free & (index >= 0)
        if not (index >= 0).any():
            return
        if begun.any():
            # rows that never get an episode must be somewhere too
            mask = np.ones(n, dtype=bool) if first else begun
            obs, info = env.reset(seed=row_seeds, options={"reset_mask": mask})
            on_reset(mask, row_seeds)
            for row in np.flatnonzero(begun):
                told[row] = env.instruction(int(row))
            seen.add(info, mask)
            reward[begun], length[begun], first = 0.0, 0, False
        obs, step_reward, terminated, truncated, info = env.step(act(obs))
        reward += step_reward
        length += 1
        seen.add(info, np.zeros(n, dtype=bool))
        over = (terminated | truncated | (length >= max_steps)) & (index >= 0)
        if not over.any():
            continue
        summary = seen.summary()
        stages, groups = env.task.stage(summary), env.task.group(summary)
        for row in np.flatnonzero(over):
            diverged = bool(summary["ever_diverged"][row])
            success = bool(summary["ever_success"][row]) and not diverged
            stage = DIVERGED if diverged else env.task.stages[stages[row]]
            yield EpisodeResult(
                index=int(index[row]),
                seed=row_seeds[row],
                success=success,
                success_at_end=bool(summary["success"][row]) and not diverged,
                reward=float(reward[row]),
                length=int(length[row]),
                stage=None if success else stage,
                group=env.task.groups[groups[row]] if env.task.groups else None,
                language=told[row],
            )
        index[over] = -1


def run_single(
    env: Any,
    act: Callable[[dict[str, NDArray[Any]]], NDArray[Any]],
    seed: int,
    index: int,
    max_steps: int,
    on_frame: Callable[[], None] = lambda: None,
    on_reset: Callable[[NDArray[np.bool_], Sequence[int]], None] = lambda mask, seeds: None,
) -> EpisodeResult:
    """Run one episode of any Gymnasium environment whose info has `success`."""
    obs, info = env.reset(seed=seed)
    on_reset(np.ones(1, dtype=bool), [seed])
    task = getattr(env.unwrapped, "task", None)
    seen, fresh = Seen(1), np.array([True])
    seen.add(_as_row(info), fresh)
    reward, length, over = 0.0, 0, False
    on_frame()
    while not over and length < max_steps:
        obs, step_reward, terminated, truncated, info = env.step(act(obs))
        seen.add(_as_row(info), ~fresh)
        reward += float(step_reward)
        length += 1
        over = terminated or truncated
        on_frame()
    summary = seen.summary()
    diverged = bool(summary.get("ever_diverged", ~fresh)[0])
    success = bool(summary.get("ever_success", ~fresh)[0]) and not diverged
    at_end = bool(info.get("success", False)) and not diverged
    stage = DIVERGED if diverged else None
    if task is None:
        return EpisodeResult(index, seed, success, at_end, reward, length, stage)
    stage = None if success else stage or task.stages[int(task.stage(summary)[0])]
    group = task.groups[int(task.group(summary)[0])] if task.groups else None
    told = env.unwrapped.instruction()
    return EpisodeResult(index, seed, success, at_end, reward, length, stage, group, told)


def _as_row(info: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    return {
        k: np.array([v]) for k, v in info.items() if isinstance(v, bool | int | float | np.bool_)
    }
