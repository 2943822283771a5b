"""What an agent is shown of an observation, and that its checkpoint shows a policy the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from simscaleai.errors import UserError
from simscaleai.models.policy import ModelPolicy
from simscaleai.rl.agents.ppo import PPOAgent, PPOConfig
from simscaleai.rl.agents.state_extractor import StateExtractor
from simscaleai.sim import make_vec_env

CHOSEN = ["target_pos", "ee_pos", "joint_vel"]


def test_all_vectors_by_default_and_those_chosen_in_sorted_order() -> None:
    obs = {"b": np.full((2, 1), 2.0), "a": np.ones((2, 2)), "image": np.zeros((2, 4, 4, 3))}
    np.testing.assert_array_equal(StateExtractor()(obs), [[1, 1, 2]] * 2)
    np.testing.assert_array_equal(StateExtractor(["b"])(obs), [[2]] * 2)
    row = {key: value[0] for key, value in obs.items()}
    np.testing.assert_array_equal(StateExtractor()(row), [1, 1, 2])
    np.testing.assert_array_equal(StateExtractor()(np.ones((2, 3))), np.ones((2, 3)))


def test_positions_are_seen_from_the_hand() -> None:
    """Hand at (1, 2, 3), target at (1, 2, 3.5): heights, the offset, and tanh of it over 1 and 5 cm."""
    obs = {"ee_pos": np.float32([[1, 2, 3]]), "target_pos": np.float32([[1, 2, 3.5]])}
    seen = StateExtractor(relative_positions=True)({**obs, "grip": np.float32([[7]])})
    expected = [3, 3.5, 0, 0, 0.5, 0, 0, np.tanh(50), 0, 0, np.tanh(10), 7]
    np.testing.assert_allclose(seen, [expected], rtol=1e-6)


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"target_pso.*target_pos"):
        StateExtractor(["target_pso"])({"target_pos": np.ones(3)})
    with pytest.raises(UserError, match="image"):
        StateExtractor(["image"])({"target_pos": np.ones(3), "image": np.ones((4, 4, 3))})
    with pytest.raises(UserError, match="observations that are dicts"):
        StateExtractor(relative_positions=True)(np.ones(3))


def test_the_agent_and_the_policy_of_its_checkpoint_act_alike(tmp_path: Path) -> None:
    env = make_vec_env("reach", 2, autoreset_mode="same_step", max_episode_steps=4)
    config = PPOConfig(
        n_steps=8, batch_size=8, total_timesteps=16, state_keys=CHOSEN, relative_positions=True
    )
    agent = PPOAgent(18, 4, config)
    agent.train(env)
    agent.save(tmp_path / "agent.pt")
    obs, _ = env.reset(seed=3)
    expected = agent.predict(obs)
    policy = ModelPolicy.from_checkpoint(tmp_path / "agent.pt", device="cpu")
    np.testing.assert_allclose(policy.act(obs), expected, atol=1e-6)
    again = PPOAgent.from_checkpoint(tmp_path / "agent.pt")
    again.save(tmp_path / "again.pt")  # before it has seen anything
    policy = ModelPolicy.from_checkpoint(tmp_path / "again.pt", device="cpu")
    np.testing.assert_allclose(policy.act(obs), expected, atol=1e-6)
    assert policy.contract is not None
    np.testing.assert_array_equal(again.predict(obs), expected)
    moved = {**obs, "joint_pos": obs["joint_pos"] + 1}  # not among those chosen
    np.testing.assert_array_equal(again.predict(moved), expected)
    there = {**obs, "target_pos": obs["target_pos"] + 0.1}
    assert not np.allclose(again.predict(there), expected)
    torch.testing.assert_close(again.obs_rms.mean, agent.obs_rms.mean)
