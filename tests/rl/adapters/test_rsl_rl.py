"""The adapter against the real rsl_rl, where it is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simscaleai.errors import UserError
from simscaleai.rl.adapters.rsl_rl import RslRlVecEnv
from simscaleai.sim import make_vec_env

FAST: dict[str, Any] = {"dt": 0.005, "max_episode_steps": 4}
NETWORK = {"class_name": "MLPModel", "hidden_dims": [16], "activation": "elu"}
GAUSSIAN = {"class_name": "GaussianDistribution", "init_std": 1.0, "std_type": "scalar"}
RUNNER: dict[str, Any] = {
    "num_steps_per_env": 8,
    "save_interval": 100,
    "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
    "algorithm": {"class_name": "PPO", "num_learning_epochs": 1, "num_mini_batches": 2},
    "actor": {**NETWORK, "distribution_cfg": GAUSSIAN},
    "critic": NETWORK,
}


def test_without_the_package_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "rsl_rl.env", None)
    for error in (UserError, ImportError):
        with pytest.raises(error, match="pip install rsl-rl-lib"):
            RslRlVecEnv(make_vec_env("reach", 2, autoreset_mode="same_step"))


def test_steps_are_those_of_the_environment() -> None:
    env = pytest.importorskip("rsl_rl.env")
    with pytest.raises(UserError, match='autoreset_mode="same_step"'):
        RslRlVecEnv(make_vec_env("reach", 3))
    reference = make_vec_env("reach", 3, autoreset_mode="same_step", **FAST)
    envs = RslRlVecEnv(make_vec_env("reach", 3, autoreset_mode="same_step", **FAST), seed=0)
    assert isinstance(envs, env.VecEnv)
    assert (envs.num_envs, envs.num_actions, envs.max_episode_length) == (3, 4, 4)
    obs, _ = reference.reset(seed=0)
    for step in range(6):
        state = np.concatenate([obs[key] for key in sorted(obs)], axis=1)
        np.testing.assert_array_equal(envs.get_observations()["policy"].numpy(), state)
        actions = np.full((3, 4), 0.1 * step, np.float32)
        obs, reward, _, truncated, _ = reference.step(actions)
        _, rewards, dones, extras = envs.step(torch.from_numpy(actions))
        np.testing.assert_allclose(rewards.numpy(), reward, rtol=1e-6)
        assert dones.tolist() == extras["time_outs"].tolist() == truncated.tolist()
        assert ("log" in extras) == truncated.any()
    envs.episode_length_buf = torch.tensor([3, 0, 0])
    assert envs.step(torch.zeros(3, 4))[2].tolist() == [1, 0, 0]


def test_the_on_policy_runner_learns(tmp_path: Path) -> None:
    runners = pytest.importorskip("rsl_rl.runners")
    envs = RslRlVecEnv(make_vec_env("reach", 8, autoreset_mode="same_step", **FAST))
    runner = runners.OnPolicyRunner(envs, RUNNER, log_dir=str(tmp_path))
    before = [p.clone() for p in runner.alg.actor.parameters()]
    runner.learn(1, init_at_random_ep_len=True)
    after = list(runner.alg.actor.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert list(tmp_path.glob("model_*.pt"))
