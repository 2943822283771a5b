"""Every kind of environment gives the same transitions."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from simscaleai.rl.agents.vec_env_adapter import VecEnvAdapter
from simscaleai.sim import make_vec_env

ACTIONS = np.random.default_rng(0).uniform(-1, 1, (40, 3, 4)).astype(np.float32)


class Count(gymnasium.Env):
    """Observes how many steps it has taken; ends after `length` of them, or is cut off after 5."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,))
    action_space = spaces.Box(-1, 1, (4,))

    def __init__(self, length: int) -> None:
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        over = self.steps >= self.length
        return np.full(1, self.steps, np.float32), 1.0, over, self.steps >= 5, {"success": over}


def transitions(envs: VecEnvAdapter, steps: int) -> list[list[tuple[float, ...]]]:
    """For each environment: (from, to, terminated, truncated) of the steps that count."""
    obs = envs.reset(seed=0)
    found: list[list[tuple[float, ...]]] = [[] for _ in range(envs.num_envs)]
    for actions in ACTIONS[:steps, : envs.num_envs]:
        step = envs.step(actions)
        for i in np.flatnonzero(step.valid):
            end = (bool(step.terminated[i]), bool(step.truncated[i]))
            found[i].append((float(obs[i, 0]), float(step.final_obs[i, 0]), *end))
        obs = step.obs
    return found


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_all_autoreset_modes_give_the_same_transitions(mode: AutoresetMode) -> None:
    lengths = (2, 3, 99)
    env = SyncVectorEnv([lambda k=k: Count(k) for k in lengths], autoreset_mode=mode)
    found = transitions(VecEnvAdapter(env), 12)
    for length, rows in zip(lengths, found, strict=True):
        alone = transitions(VecEnvAdapter(Count(length)), 12)[0]
        assert rows == alone[: len(rows)]
        assert len(rows) >= 8  # of 12: a step may go into each beginning
    assert found[0][:3] == [(0, 1, False, False), (1, 2, True, False), (0, 1, False, False)]
    assert found[2][4:6] == [(4, 5, False, True), (0, 1, False, False)]


@pytest.mark.parametrize("mode", ["next_step", "disabled"])
def test_our_vector_environment_too(mode: str) -> None:
    def run(mode: str):
        env = make_vec_env("reach", 3, autoreset_mode=mode, max_episode_steps=4)
        envs = VecEnvAdapter(env)
        envs.reset(seed=0)
        return [envs.step(a) for a in ACTIONS[:9]]

    # until the first episodes end, all act alike; "next_step" then spends a step on beginning
    reference = run("same_step")
    for ours, theirs in zip(run(mode)[:4], reference[:4], strict=True):
        np.testing.assert_array_equal(ours.final_obs, theirs.final_obs)
        np.testing.assert_array_equal(ours.reward, theirs.reward)
        assert ours.terms.keys() == theirs.terms.keys()
    last = reference[3]
    assert last.truncated.all()
    assert not np.array_equal(last.obs, last.final_obs)
    assert last.success is not None
