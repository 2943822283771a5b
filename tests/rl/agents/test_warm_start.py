"""An agent that starts from a clone acts like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simscaleai.errors import UserError
from simscaleai.models.normalization import Normalizer, Statistics
from simscaleai.models.policy import ModelPolicy
from simscaleai.models.registry import create_model
from simscaleai.observations import ObsSpec
from simscaleai.rl.agents.ppo import PPOAgent, PPOConfig
from simscaleai.rl.agents.warm_start import warm_start
from simscaleai.sim import make_vec_env
from simscaleai.storage.checkpoint import save_checkpoint


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkpoint of a policy of another architecture and normalization, for reach."""
    env = make_vec_env("reach", 1)
    env.reset(seed=0)
    torch.manual_seed(0)
    state = torch.ones(20)
    normalizer = Normalizer({"state": Statistics(0.3 * state, 0.5 * state, -state, state)})
    model = create_model("bc", state_dim=20, hidden_dim=16, n_layers=1)
    contract = env.contract
    spec = ObsSpec(contract.obs_shapes, contract.obs_dtypes)
    policy = ModelPolicy(model, spec, normalizer, contract)
    path = tmp_path / "clone.pt"
    payload = {"kind": "policy", "policy": policy.description(), "weights": policy.state_dict()}
    save_checkpoint(path, {**payload, "weights": dict(payload["weights"])})
    return path


def config(**changes: object) -> PPOConfig:
    return PPOConfig(**{"hidden_dim": 64, "log_std_init": -1.5, **changes})  # type: ignore[arg-type]


def test_the_actor_does_what_the_clone_does(clone: Path) -> None:
    env = make_vec_env("reach", 8, autoreset_mode="same_step", max_episode_steps=50)
    agent = PPOAgent(20, 4, config())
    untrained = agent.network.log_std.detach().clone()
    said = warm_start(agent, clone, env)
    assert "2400 steps" in said  # 5 rounds of 60 of each of 8 environments
    assert agent.obs_rms.count.item() == 480  # what the clone itself came upon
    obs, _ = env.reset(seed=5)
    policy = ModelPolicy.from_checkpoint(clone, device="cpu")
    expected, actual = policy.act(obs), agent.predict(obs)
    assert np.abs(expected).mean() > 0.1  # so that agreeing says something
    assert np.abs(actual - expected).mean() < 0.05
    assert torch.equal(agent.network.log_std, untrained)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less is fitted, where it does not matter how well."""
    for name, number in {"ROUNDS": 2, "STEPS": 20, "EPOCHS": 3}.items():
        monkeypatch.setattr(f"simscaleai.rl.agents.warm_start.{name}", number)


def test_it_is_repeatable(clone: Path, few: None) -> None:
    def weights() -> list[torch.Tensor]:
        agent = PPOAgent(20, 4, config(hidden_dim=8))
        warm_start(agent, clone, make_vec_env("reach", 2, autoreset_mode="same_step"))
        return [p.detach() for p in agent.network.parameters()]

    torch.rand(3)  # global randomness plays no part
    for one, other in zip(weights(), weights(), strict=True):
        assert torch.equal(one, other)


def test_a_clone_for_another_environment_is_refused(clone: Path) -> None:
    with pytest.raises(UserError, match=r"control_dt is 0\.1"):
        warm_start(PPOAgent(20, 4, config()), clone, make_vec_env("reach", 2, control_dt=0.1))


def test_the_clone_begins_every_episode_with_its_instruction(
    clone: Path, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, str]] = []
    reset = ModelPolicy.reset

    def listening(self: ModelPolicy, mask: Any, seeds: Any, instructions: Any = None) -> None:
        begun.extend((seeds[i], instructions[i]) for i in np.flatnonzero(mask))
        reset(self, mask, seeds, instructions)

    monkeypatch.setattr(ModelPolicy, "reset", listening)
    env = make_vec_env("reach", 2, autoreset_mode="same_step", max_episode_steps=5, dt=0.005)
    warm_start(PPOAgent(20, 4, config(hidden_dim=8)), clone, env)
    assert len(begun) >= 2 * 2 * 20 // 5 and len(set(begun)) == len(begun)
    assert {instruction for _, instruction in begun} == {"reach the green target"}
