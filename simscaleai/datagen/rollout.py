"""Many episodes at once on the rows of one vector environment.

The rows are kept busy: a row whose episode ends is reset with the seed of the next one, while the
others go on. Nothing an episode contains depends on its row, on its neighbours or on when it ran:
start, randomization, exploration noise and random actions are functions of the episode's own seed.

Recording is columnar: one copy per key and step, of all rows, into ring buffers (max_steps, n, ...);
an episode is cut out of its column when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscaleai import seeding
from simscaleai.policy import Policy, begin_episodes
from simscaleai.storage.episode import NEXT_OBS, OBS, Episode


def episode_seed(seed: int, index: int) -> int:
    """The seed that episode `index` of a dataset with master seed `seed` runs on."""
    return seeding.derive_seed(seed, "episode", index)


def roll_out(
    env: Any,
    policy: Policy,
    indices: Iterable[int],
    *,
    seed: int,
    max_steps: int,
    noise: float = 0.0,
    next_obs: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Episode]:
    """Run the episodes `indices` and yield each as it ends, in no particular order.

    Args:
      env: a vector environment with autoreset disabled, truncating at `max_steps`.
      policy: who acts; its own action is what is recorded.
      seed: the dataset's master seed; see `episode_seed`.
      noise: standard deviation of what is added to the executed action (not to the recorded one).
      next_obs: also record the observation after each action, that after the last one included.
      stop: asked at every step; once True, unfinished episodes are dropped.
    """
    n = env.num_envs
    todo = iter(indices)
    index = np.full(n, -1)  # the episode in each row; -1: none
    start = np.zeros(n, np.int64)  # the step (of all rows) at which it began
    seeds = [0] * n
    sampled: list[dict[str, Any]] = [{} for _ in range(n)]
    recorder = _Recorder(max_steps)
    exploration = np.zeros((max_steps, n, env.contract.action_dim))
    free = np.ones(n, bool)
    step = 0
    while not stop():
        for row in np.flatnonzero(free):
            index[row] = next(todo, -1)
            if index[row] >= 0:
                seeds[row] = episode_seed(seed, int(index[row]))
        fresh = free & (index >= 0)
        if fresh.any():
            # The first time, rows without an episode are started too: they have to be somewhere.
            mask = np.ones(n, bool) if step == 0 else fresh
            obs, info = env.reset(seed=seeds, options={"reset_mask": mask})
            begin_episodes(policy, env, mask, seeds)
            start[fresh] = step
            for row in np.flatnonzero(fresh):
                sampled[row] = _row(info.get("randomization", {}), int(row))
                if noise > 0:
                    rng = seeding.generator(seeds[row], "exploration")
                    slots = (step + np.arange(max_steps)) % max_steps
                    exploration[slots, row] = rng.normal(0.0, noise, exploration.shape[::2])
        if not (index >= 0).any():
            return
        states = env.states()
        action = np.array(policy.act(obs), np.float32)
        recorder.before(step, obs, action, states)
        executed = action
        if noise > 0:
            executed = np.clip(action + exploration[step % max_steps], -1, 1).astype(np.float32)
        obs, reward, terminated, truncated, info = env.step(executed)
        recorder.after(step, reward, obs if next_obs else {})
        step += 1
        free = (terminated | truncated) & (index >= 0)
        for row in np.flatnonzero(free):
            yield recorder.cut(
                int(row),
                int(start[row]),
                step,
                index=int(index[row]),
                seed=seeds[row],
                success=bool(info["success"][row]),
                diverged=bool(info["diverged"][row]),
                language=env.instruction(int(row)),
                randomization=sampled[row],
            )
        index[free] = -1
        free = index < 0


class _Recorder:
    """Ring buffers (max_steps, n, ...) of what happened at each step of all rows."""

    def __init__(self, max_steps: int) -> None:
        self._size = max_steps
        self._buffers: dict[str, NDArray[Any]] = {}

    def before(
        self,
        step: int,
        obs: Mapping[str, NDArray[Any]],
        action: NDArray[np.float32],
        states: NDArray[np.float64],
    ) -> None:
        for key, value in obs.items():
            self._store(step, OBS + key, value)
        self._store(step, "actions", action)
        self._store(step, "states", states)

    def after(self, step: int, reward: NDArray[Any], next_obs: Mapping[str, NDArray[Any]]) -> None:
        self._store(step, "rewards", reward.astype(np.float32, copy=False))
        for key, value in next_obs.items():
            self._store(step, NEXT_OBS + key, value)

    def cut(self, row: int, start: int, stop: int, **about: Any) -> Episode:
        """Copy what row `row` did in steps start..stop-1; `about` is the rest of the episode."""
        assert 0 < stop - start <= self._size, (start, stop, self._size)
        slots = np.arange(start, stop) % self._size
        columns = {key: buffer[slots, row] for key, buffer in self._buffers.items()}
        return Episode(
            obs=_below(OBS, columns),
            next_obs=_below(NEXT_OBS, columns),
            actions=columns["actions"],
            rewards=columns["rewards"],
            dones=np.arange(len(slots)) == len(slots) - 1,
            states=columns["states"],
            **about,
        )

    def _store(self, step: int, key: str, value: NDArray[Any]) -> None:
        if key not in self._buffers:
            self._buffers[key] = np.empty((self._size, *value.shape), value.dtype)
        self._buffers[key][step % self._size] = value


def _below(prefix: str, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {k.removeprefix(prefix): v for k, v in columns.items() if k.startswith(prefix)}


def _row(values: Mapping[str, Any], row: int) -> dict[str, Any]:
    """Row `row` of {name: (n, ...)}, as JSON values."""
    return {name: np.asarray(value)[row].tolist() for name, value in values.items()}
