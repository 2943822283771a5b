"""`simscale train` without a dataset, then `simscale eval --env-name`: any model, by the checkpoint alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.models.policy import ModelPolicy
from simscaleai.models.registry import list_models, model_presets
from simscaleai.rl import evaluate_checkpoint
from simscaleai.rl.agents.ppo import PPOAgent, PPOConfig
from simscaleai.rollout.policy_environment import image_shapes, policy_environment
from simscaleai.sim import SimConfig, make_env, make_vec_env
from simscaleai.training import TrainConfig, train_policy

CAMERAS = ["front_cam", "wrist_cam"]
RUNS = [
    *((f"{name}:debug" if "debug" in model_presets(name) else name, {}) for name in list_models()),
    ("bc:debug", {"use_image": True, "image_size": 32}),
    ("bc:debug", {"cameras": CAMERAS, "image_size": 32, "state_dim": 0}),
    ("bc:debug", {"cameras": CAMERAS[:1], "image_size": 32}),
]


def trained(name: str, kwargs: dict[str, Any], folder: Path) -> Path:
    train_policy(
        TrainConfig(
            name,
            kwargs,
            batch_size=2,
            max_steps=1,
            device="cpu",
            show_progress=False,
            use_tensorboard=False,
            checkpoint_dir=str(folder),
        )
    )
    return folder / "final.pt"


@pytest.mark.parametrize(("name", "kwargs"), RUNS)
def test_a_model_trained_on_made_up_data_acts(
    name: str, kwargs: dict[str, Any], tmp_path: Path
) -> None:
    policy = ModelPolicy.from_checkpoint(trained(name, kwargs, tmp_path))
    env_name, config = policy_environment(None, "reach", images=image_shapes(policy))
    env = make_vec_env(env_name, 2, autoreset_mode="disabled", config=config)
    assert len(config.cameras) == (2 if kwargs.get("cameras") else bool(policy.spec.image_keys))  # type: ignore[union-attr]
    obs, _ = env.reset(seed=0)
    policy.reset(np.ones(2, bool), [0, 1], [env.instruction(i) for i in range(2)])
    assert policy.act(obs).shape == (2, 4)
    env.close()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes of evaluations take 10 steps."""

    def environment(*args: Any, **kwargs: Any) -> tuple[str, SimConfig]:
        name, config = policy_environment(*args, **kwargs)
        return name, replace(config, max_episode_steps=10)

    monkeypatch.setattr("simscaleai.rollout.policy_source.policy_environment", environment)


def test_the_documented_pair_of_commands(tmp_path: Path, short: None) -> None:
    path = trained("vla:debug", {"image_size": 32}, tmp_path)
    with pytest.raises(UserError, match="--env-name"):
        evaluate_checkpoint(path, 1, device="cpu", show_progress=False)
    result = evaluate_checkpoint(path, 1, env_name="reach", device="cpu", show_progress=False)
    assert result["n_episodes"] == 1 and result["trained_on"] is None


def test_a_state_of_another_width_is_named(tmp_path: Path) -> None:
    path = trained("bc:debug", {"state_dim": 7}, tmp_path)
    with pytest.raises(UserError, match=r"'state' has the shape \(20,\) per env, expected \(7,\)"):
        evaluate_checkpoint(path, 1, env_name="reach", device="cpu", show_progress=False)


@pytest.mark.parametrize("flat", [False, True])
def test_agents(flat: bool, tmp_path: Path) -> None:
    from gymnasium.wrappers import FlattenObservation

    env: Any = make_env("reach", cameras=[], max_episode_steps=8)
    agent = PPOAgent(20, 4, PPOConfig(total_timesteps=8, n_steps=8, n_epochs=1))
    agent.train(FlattenObservation(env) if flat else env)
    agent.save(tmp_path / "agent.pt")
    result = evaluate_checkpoint(
        tmp_path / "agent.pt", 2, env_name="reach", device="cpu", show_progress=False
    )
    assert result["n_episodes"] == 2
    assert flat or EnvContract.of(env) is not None
