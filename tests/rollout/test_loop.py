"""One episode for each seed, on any environment; what recorders and callers see of it."""

from __future__ import annotations

from itertools import count, islice
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from simscaleai.rollout import (
    ExplorationNoise,
    OutcomeRecorder,
    Recorder,
    Rollout,
    run_episodes,
)
from simscaleai.rollout.episode_recorder import EpisodeRecorder
from simscaleai.sim import make_env, make_vec_env
from simscaleai.storage.episode import Episode

SEEDS = [11, 5, 8, 3, 9]


class Counting(gymnasium.Env):
    """Ends after as many steps as its seed says."""

    observation_space: Any = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space: Any = spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.length, self.t = seed or 4, 0
        return np.array([float(self.length)]), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return np.array([float(self.length)]), 1.0, self.t == self.length, False, {}


def still(obs: Any) -> Any:
    return np.zeros_like(obs, dtype=np.float32)


def results(env: Any, policy: Any = still, **options: Any) -> list[Any]:
    outcomes = OutcomeRecorder()
    found = []
    for _ in run_episodes(env, policy, SEEDS, [outcomes], **options):
        found += outcomes.finished
    return sorted(found, key=lambda result: result.index)


@pytest.mark.parametrize("mode", [None, *AutoresetMode])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_one_episode_for_each_seed(mode: AutoresetMode | None, n: int) -> None:
    env = Counting() if mode is None else SyncVectorEnv([Counting] * n, autoreset_mode=mode)
    found = results(env)
    assert [(r.index, r.seed, r.length) for r in found] == [
        (i, seed, seed) for i, seed in enumerate(SEEDS)
    ]
    assert {r.success for r in found} == {None} and {r.instruction for r in found} == {""}
    assert [r.length for r in results(env, max_steps=6)] == [min(seed, 6) for seed in SEEDS]


def test_no_seeds_are_no_episodes() -> None:
    assert list(run_episodes(Counting(), still, [])) == []


class Watching(Recorder):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin(self, rollout: Rollout) -> None:
        assert rollout.begun.any() and not len(rollout.ended)
        assert (rollout.length[rollout.begun] == 0).all()
        self.calls.append("begin")

    def before_step(self, rollout: Rollout) -> None:
        assert rollout.action.shape == (1,)
        self.calls.append("before")

    def after_step(self, rollout: Rollout) -> None:
        assert not rollout.begun.any() and rollout.reward.shape == (1,)
        self.calls.append("after")


def test_every_reset_and_step_is_seen_and_nothing_runs_ahead() -> None:
    watching = Watching()
    steps = run_episodes(Counting(), still, count(2), [watching])
    assert watching.calls == []
    rollout = next(steps)
    assert watching.calls == ["begin"] and rollout.length.tolist() == [0]
    next(steps)
    assert watching.calls == ["begin", "before", "after"] and rollout.length.tolist() == [1]
    next(steps)
    assert rollout.ended.tolist() == [0] and rollout.episode.tolist() == [0]
    assert next(steps) is rollout  # the next episode has begun
    assert watching.calls[-1] == "begin" and rollout.episode.tolist() == [1]
    assert rollout.seeds == [3] and not len(rollout.ended)


class Listening:
    def __init__(self) -> None:
        self.given: dict[int, str] = {}

    def reset(self, mask: Any, seeds: Any, instructions: Any) -> None:
        assert len(instructions) == len(mask) == len(seeds)
        self.given |= {seeds[i]: instructions[i] for i in np.flatnonzero(mask)}

    def act(self, obs: Any) -> Any:
        return np.zeros((len(obs["ee_pos"]), 4), np.float32)


@pytest.mark.parametrize("single", [True, False])
def test_policies_get_the_instructions_of_their_episodes(single: bool) -> None:
    env: Any = (
        make_env("reach_color", cameras=[], max_episode_steps=2)
        if single
        else make_vec_env("reach_color", 2, max_episode_steps=2)
    )
    policy = Listening()
    found = results(env, policy)
    assert {r.seed: r.instruction for r in found} == policy.given
    assert len(set(policy.given.values())) > 1


def recorded(n: int, noise: float) -> list[Episode]:
    env = make_vec_env("reach", n, autoreset_mode="disabled", max_episode_steps=40, dt=0.005)
    recorder = EpisodeRecorder(max_steps=40)
    episodes = []
    added = ExplorationNoise(noise, 40) if noise else None
    expert = env.task.expert()  # type: ignore[attr-defined]
    for _ in run_episodes(env, expert, SEEDS, [recorder], noise=added):
        episodes += recorder.finished
    return sorted(episodes, key=lambda episode: episode.index)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_episodes_do_not_depend_on_the_envs_they_run_in(noise: float) -> None:
    for one, many in zip(recorded(1, noise), recorded(3, noise), strict=True):
        assert one.seed == many.seed == SEEDS[one.index] and one.success
        for key, value in one.arrays().items():
            np.testing.assert_array_equal(value, many.arrays()[key])


def test_noise_is_executed_and_not_recorded() -> None:
    noisy, calm = recorded(2, 0.5)[0], recorded(2, 0.0)[0]
    np.testing.assert_array_equal(noisy.actions[0], calm.actions[0])  # of the same state
    assert not np.array_equal(noisy.states[1], calm.states[1])


def test_a_loop_that_is_left_takes_no_further_step() -> None:
    env = Counting()
    list(islice(run_episodes(env, still, [9]), 4))
    assert env.t == 3


class Resting:
    """Notes which envs it acts for: all but those that rest."""

    def __init__(self) -> None:
        self.awake: list[int] = []

    def reset(self, mask: Any, seeds: Any, instructions: Any = None) -> None:
        self._awake = self._awake | mask if self.awake else mask.copy()

    def rest(self, mask: Any) -> None:
        self._awake = self._awake & ~mask

    def act(self, obs: Any) -> Any:
        self.awake.append(int(self._awake.sum()))
        return np.zeros((2, 1), np.float32)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_policy_may_rest_where_no_episode_is_left(mode: AutoresetMode) -> None:
    policy = Resting()
    env = SyncVectorEnv([Counting] * 2, autoreset_mode=mode)
    lengths = [r.length for r in results(env, policy)]
    assert lengths == SEEDS
    assert sum(policy.awake) == sum(SEEDS)  # an act for each step of each episode, and no others
