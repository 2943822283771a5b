"""Running a fixed suite of episodes, many at once, and what is remembered of each.

Evaluation episode i of seed s starts from `episode_seed(s, i)`, a stream of its own: no episode of a
dataset starts there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from simscaleai import seeding
from simscaleai.errors import UserError
from simscaleai.infos import last_info
from simscaleai.memory import require_memory
from simscaleai.rl.env_checks import (
    as_rewards,
    check_finite,
    entries,
    reset_all,
    takes_long_seeds,
    task_of,
)
from simscaleai.rl.outcomes import Outcomes
from simscaleai.sim.vector_env import TaskVectorEnv

_EPISODE_BYTES = 100  # of its seed and its result, at the least


@dataclass(frozen=True)
class EpisodeResult:
    """One evaluated episode.

    Attributes:
      index: its number in the suite.
      seed: what its environment was reset with.
      success: whether it succeeded at any step; None if the environment never said.
      success_at_end: whether it did at its last step; None if the environment never said.
      reward: sum of rewards.
      length: control steps.
      stage: where it failed, one of the task's `stages`, or `outcomes.DIVERGED`; None for a success or a task
        without stages.
      group: which of the task's `groups` it belongs to; None without.
      language: what the policy was told.
    """

    index: int
    seed: int
    success: bool | None
    success_at_end: bool | None
    reward: float
    length: int
    stage: str | None
    group: str | None = None
    language: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def episode_seeds(seed: int, n_episodes: int, setting: str = "n_episodes") -> list[int]:
    """The seeds of episodes 0 to n - 1; UserError if that many cannot be held, naming the setting."""
    require_memory(_EPISODE_BYTES * n_episodes, f"{setting}={n_episodes}")
    return [episode_seed(seed, i) for i in range(n_episodes)]


def episode_seed(seed: int, index: int) -> int:
    """The seed of evaluation episode `index` of suite `seed`."""
    return seeding.derive_seed(seed, "evaluation", index)


def suite(seed: int, n_episodes: int, env: Any = None) -> list[int]:
    """Return the seeds of a suite of episodes.

    Args:
      seed: which suite.
      n_episodes: how many episodes.
      env: where they will run. Environments of other packages, which hand their seeds to NumPy's old
        generators or to C, get the lowest 31 bits of ours.

    Raises:
      UserError: a number is out of range.
    """
    if n_episodes < 1:
        raise UserError(f"n_episodes is {n_episodes}; it must be at least 1.")
    seed = seeding.check_seed(seed)
    seeds = episode_seeds(seed, n_episodes)
    return seeds if env is None or takes_long_seeds(env) else [s % 2**31 for s in seeds]


def run_batch(
    env: Any,
    act: Callable[[Any], Any],
    seeds: Sequence[int],
    max_steps: int,
    on_reset: Callable[[NDArray[np.bool_], Sequence[int]], None] = lambda mask, seeds: None,
) -> Iterator[EpisodeResult]:
    """Run one episode for each of `seeds` on the envs of a vector environment, of any autoreset mode.

    A `TaskVectorEnv`, or one whose autoreset is disabled, gives an env that is free the next episode at once.
    Others begin when all are free, as only a reset of all of them is certain to take seeds.

    Args:
      env: a Gymnasium vector environment.
      act: observations of n envs to actions (n, ...).
      max_steps: control steps after which an episode is over, besides the environment's own limit.
      on_reset: called with the envs that begin an episode, (n,) bool, and all envs' seeds.

    Yields:
      Results as episodes end, in no particular order.

    Raises:
      UserError: the environment gives NaN, or something that is no reward or success.
    """
    n, task, ours = env.num_envs, task_of(env), isinstance(env.unwrapped, TaskVectorEnv)
    mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    alone = (
        ours or mode == AutoresetMode.DISABLED
    )  # whether one env can be reset without the others
    index = np.full(n, -1)  # the episode in each env; -1: none
    env_seeds = [int(seeds[0])] * n
    instructions = [""] * n
    reward = np.zeros(n)
    length = np.zeros(n, dtype=np.int64)
    outcomes = Outcomes(n, task)
    ended = np.ones(n, dtype=bool)  # and not reset since
    waiting, started = 0, False
    while True:
        free = index < 0
        if alone or free.all():
            for row in np.flatnonzero(free)[: len(seeds) - waiting]:
                index[row], env_seeds[row] = waiting, int(seeds[waiting])
                waiting += 1
        begun = free & (index >= 0)
        if not (index >= 0).any():
            return
        # envs that never get an episode must be somewhere too, and only ours may stand still at its end
        mask = begun.copy()
        if not started or (alone and not ours):
            mask |= ended
        elif begun.any() and not alone:
            mask[:] = True
        if mask.any():
            started = True
            options = {"reset_mask": mask.copy()} if alone else None
            obs, info = entries(reset_all(env, env_seeds, options), 2, "reset", env)
            on_reset(mask, env_seeds)
            outcomes.begin(info, mask)
            if task is not None:
                for row in np.flatnonzero(begun):
                    instructions[row] = env.unwrapped.instruction(int(row))
            reward[begun], length[begun], ended[mask] = 0.0, 0, False
        check_finite(obs, env, length, index, env_seeds)
        obs, step_reward, *flags, info = entries(env.step(act(obs)), 5, "step", env)
        ended = np.asarray(flags[0], dtype=bool) | np.asarray(flags[1], dtype=bool)
        if mode == AutoresetMode.SAME_STEP and ended.any():
            info = last_info(info, info.get("final_info", {}), ended)
        reward += as_rewards(step_reward, n, env)
        length += 1
        outcomes.add(info)
        over = np.flatnonzero((ended | (length >= max_steps)) & (index >= 0))
        for row, outcome in zip(over, outcomes.of(over) if len(over) else (), strict=True):
            yield EpisodeResult(
                index=int(index[row]),
                seed=env_seeds[row],
                reward=float(reward[row]),
                length=int(length[row]),
                language=instructions[row],
                **outcome._asdict(),
            )
        index[over] = -1


def run_single(
    env: Any,
    act: Callable[[Any], Any],
    seed: int,
    index: int,
    max_steps: int,
    on_frame: Callable[[], None] = lambda: None,
    on_reset: Callable[[NDArray[np.bool_], Sequence[int]], None] = lambda mask, seeds: None,
) -> EpisodeResult:
    """Run one episode of any Gymnasium environment; errors as of `run_batch`."""
    obs, info = entries(env.reset(seed=seed), 2, "reset", env)
    on_reset(np.ones(1, dtype=bool), [seed])
    task = task_of(env)
    outcomes = Outcomes(1, task, single=True)
    outcomes.begin(info, np.array([True]))
    reward, length, over = 0.0, 0, False
    on_frame()
    while not over and length < max_steps:
        check_finite(obs, env, np.array([length]), np.array([index]), [seed], batched=False)
        obs, step_reward, *flags, info = entries(env.step(act(obs)), 5, "step", env)
        outcomes.add(info)
        reward += float(as_rewards(step_reward, 1, env)[0])
        length += 1
        over = bool(flags[0]) or bool(flags[1])
        on_frame()
    (outcome,) = outcomes.of(np.array([0]))
    instruction = "" if task is None else env.unwrapped.instruction()
    return EpisodeResult(
        index, seed, reward=reward, length=length, language=instruction, **outcome._asdict()
    )
