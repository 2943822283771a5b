"""What every registered model promises; a model that is added is tested here without an edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simscaleai.models import list_models
from simscaleai.models.policy import ModelPolicy
from simscaleai.training import TrainConfig, build_trainer

MODELS = [name for name in list_models() if not name.startswith("test-")]


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def config(name: str, folder: Path, **kwargs: Any) -> TrainConfig:
    """A run on made-up data of the shapes that the model takes by default."""
    base: dict[str, Any] = {
        "batch_size": 4,
        "max_steps": 4,
        "warmup_steps": 0,
        "device": "cpu",
        "show_progress": False,
        "checkpoint_dir": str(folder),
    }
    return TrainConfig(name, **{**base, **kwargs})


def first_batch(trainer: Any) -> dict[str, Any]:
    return next(iter(trainer.stream.loader))


def raw(batch: dict[str, Any]) -> dict[str, np.ndarray]:
    """Observations as an environment gives them."""
    obs = {k: v.numpy() for k, v in batch["observations"].items()}
    if "image" in obs:
        obs["image"] = (obs["image"] * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    return obs


def test_forward_gives_a_loss_that_reaches_every_parameter(name: str, tmp_path: Path) -> None:
    trainer = build_trainer(config(name, tmp_path))
    out = trainer.model(first_batch(trainer))
    assert out["loss"].shape == () and torch.isfinite(out["loss"])
    assert out["predicted_actions"].shape[0] == 4
    assert out["predicted_actions"].shape[-1] == 4
    out["loss"].backward()
    without = [k for k, p in trainer.model.named_parameters() if p.grad is None]
    assert without == []


def test_predict_changes_neither_mode_nor_random_state(name: str, tmp_path: Path) -> None:
    trainer = build_trainer(config(name, tmp_path))
    model = trainer.model.model.train()
    obs = first_batch(trainer)["observations"]
    before = torch.get_rng_state()
    actions = model.predict(obs)
    assert torch.equal(before, torch.get_rng_state())
    assert all(m.training for m in model.modules())
    assert actions.shape[0] == 4 and actions.shape[-1] == 4 and not actions.requires_grad


def test_it_learns_a_batch_by_heart(name: str, tmp_path: Path) -> None:
    trainer = build_trainer(config(name, tmp_path, lr=1e-3))
    batch = first_batch(trainer)
    losses = [trainer._update(batch, 1e-3)["loss"].item() for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])


def test_its_checkpoint_is_the_policy(name: str, tmp_path: Path) -> None:
    trainer = build_trainer(config(name, tmp_path))
    trainer.train()
    policy = ModelPolicy.from_checkpoint(tmp_path / "final.pt", device="cpu")
    obs = raw(first_batch(trainer))
    actions = policy.act(obs)
    assert actions.shape == (4, 4) and actions.dtype == np.float32 and np.abs(actions).max() <= 1
    np.testing.assert_array_equal(actions, trainer.model.act(obs))
    for i in range(4):  # rows do not depend on their neighbours
        one = policy.act({k: v[i : i + 1] for k, v in obs.items()})
        np.testing.assert_array_equal(one[0], actions[i])


def test_resume_is_bit_exact(name: str, tmp_path: Path) -> None:
    whole = build_trainer(config(name, tmp_path, save_every=2))
    whole.train()
    resumed = build_trainer(config(name, tmp_path, resume_from=str(tmp_path / "step_2.pt")))
    resumed.train()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key
