from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from simscaleai.errors import UserError
from simscaleai.models import create_model
from simscaleai.training import TrainConfig, Trainer
from simscaleai.training.component_settings import HardwareSettings
from simscaleai.training.data.dummy import DummyTrajectoryDataset
from simscaleai.training.data.loader import make_loader

DATA = DummyTrajectoryDataset(21, obs_dim=5)  # batches of 8, 8 and 5


def trainer(folder: Path, model: nn.Module | None = None, **kwargs: Any) -> Trainer:
    base: dict[str, Any] = {"batch_size": 8, "lr": 1e-2, "max_steps": 6, "warmup_steps": 0}
    base |= {"device": "cpu", "show_progress": False, "use_tensorboard": False, "log_every": 1}
    torch.manual_seed(0)
    model = model or create_model("bc", state_dim=5, hidden_dim=16, n_layers=2, dropout=0.0)
    config = TrainConfig(**{**base, "checkpoint_dir": str(folder), **kwargs})
    return Trainer(model, make_loader(DATA, config.batch_size), config)


@pytest.mark.parametrize("pieces", [2, 4, 8])
def test_pieces_add_up_to_the_batch(tmp_path: Path, pieces: int) -> None:
    """Also where the last batch of an epoch cannot be cut into equal ones."""
    whole = trainer(tmp_path / "a")
    cut = trainer(tmp_path / "b", accumulate=pieces)
    one, other = whole.train(), cut.train()
    for a, b in zip(whole.optimizer_step.parameters, cut.optimizer_step.parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    for key in ("loss", "action_mae", "grad_norm"):
        assert one[key] == pytest.approx(other[key], rel=1e-4)


def test_batch_that_cannot_be_cut(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch_size is 8, and 1 processes with accumulate 3"):
        trainer(tmp_path, accumulate=3)


@pytest.fixture
def mixed_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    monkeypatch.setattr(HardwareSettings, "uses_amp", property(lambda self: True))


class Watched(nn.Module):
    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.layer, self.factor = nn.Linear(5, 4), factor
        self.dtypes: list[torch.dtype] = []

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        out = self.layer(batch["observations"]["state"])
        self.dtypes.append(out.dtype)
        return {"loss": self.factor * (out.float() - batch["actions"]).square().mean()}


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_mixed_precision(tmp_path: Path, mixed_precision: None, name: str) -> None:
    model = Watched()
    ours = trainer(tmp_path, model, amp_dtype=name, max_steps=40)
    first = ours.train()
    assert set(model.dtypes) == {getattr(torch, name)}
    assert model.layer.weight.dtype == torch.float32
    assert ours.optimizer_step.scaler.is_enabled() == (name == "float16")
    assert math.isfinite(first["loss"])
    again = trainer(tmp_path, Watched(), amp_dtype=name, resume_from=str(tmp_path / "final.pt"))
    assert again.optimizer_step.scaler.state_dict() == ours.optimizer_step.scaler.state_dict()


def test_float16_leaves_out_updates_that_overflow(tmp_path: Path, mixed_precision: None) -> None:
    """The scale begins at 65536 and is halved until gradients are finite; nothing stops."""
    model = Watched(factor=1e3)
    ours = trainer(tmp_path, model, amp_dtype="float16", max_steps=24)
    before = model.layer.weight.detach().clone()
    ours.optimizer_step.step(next(iter(ours.stream)), 1)
    assert torch.equal(model.layer.weight, before)
    assert ours.optimizer_step.scaler.get_scale() == 2**15
    ours.train()
    assert not torch.equal(model.layer.weight, before)


def test_full_precision_on_a_cpu(tmp_path: Path) -> None:
    model = Watched()
    trainer(tmp_path, model).train()
    assert set(model.dtypes) == {torch.float32}


@pytest.mark.slow
def test_compiled_it_learns_the_same(tmp_path: Path) -> None:
    plain, compiled = trainer(tmp_path / "a"), trainer(tmp_path / "b", compile=True)
    plain.train()
    compiled.train()
    for a, b in zip(
        plain.optimizer_step.parameters, compiled.optimizer_step.parameters, strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    assert plain.model.state_dict().keys() == compiled.model.state_dict().keys()
