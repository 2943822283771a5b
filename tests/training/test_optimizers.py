"""Optimizers and schedules by name, and a model's own parameter groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from simscaleai.errors import UserError
from simscaleai.models import create_model
from simscaleai.training import TrainConfig, Trainer
from simscaleai.training.component_settings import OptimizerSettings
from simscaleai.training.data.dummy import DummyTrajectoryDataset
from simscaleai.training.data.loader import make_loader
from simscaleai.training.optimizers import register_optimizer, slot_shapes
from simscaleai.training.schedules import register_schedule

DATA = DummyTrajectoryDataset(40, obs_dim=5)


@register_optimizer("test-adagrad")
def adagrad(groups: Any, lr: float, weight_decay: float, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.Adagrad(groups, lr=lr, weight_decay=weight_decay, **options)


@register_schedule("test-steps")
def steps(progress: float) -> float:
    return 1.0 if progress < 0.5 else 0.1


def trainer(folder: Path, model: nn.Module | None = None, **kwargs: Any) -> Trainer:
    base: dict[str, Any] = {"batch_size": 8, "lr": 1e-2, "max_steps": 12, "warmup_steps": 0}
    base |= {"device": "cpu", "show_progress": False, "use_tensorboard": False, "save_every": 5}
    torch.manual_seed(0)
    model = model or create_model("bc", state_dim=5, hidden_dim=16, n_layers=2)
    config = TrainConfig(**{**base, "checkpoint_dir": str(folder), **kwargs})
    return Trainer(model, make_loader(DATA, 8, config.seed), config)


@pytest.mark.parametrize("name", ["sgd", "test-adagrad"])
def test_resuming_is_bit_exact_with_any_optimizer(tmp_path: Path, name: str) -> None:
    settings = {"optimizer": name, "ema_decay": 0.9}
    whole = trainer(tmp_path / "a", **settings)
    whole.train()
    again = trainer(tmp_path / "b", resume_from=str(tmp_path / "a/step_5.pt"), lr=1e-2, **settings)
    assert again.step == 5
    again.train()
    for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert whole.optimizer_step.ema and again.optimizer_step.ema
    pairs = zip(whole.optimizer_step.ema.averages, again.optimizer_step.ema.averages, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_sgd_by_hand(tmp_path: Path) -> None:
    """v <- 0.5 v + g; w <- w - 0.1 v; for g = 1 twice: 1 - 0.1 - 0.15 = 0.75."""

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
            return {"loss": self.weight.sum()}

    model = One()
    options = {"optimizer": "sgd", "optimizer_options": {"momentum": 0.5}, "schedule": "constant"}
    trainer(tmp_path, model, lr=0.1, weight_decay=0, max_steps=2, **options).train()
    assert model.weight.item() == pytest.approx(0.75)


def test_slots_are_found_by_a_step() -> None:
    adamw = {"step": (), "exp_avg": None, "exp_avg_sq": None}
    assert slot_shapes(OptimizerSettings()) == adamw
    assert slot_shapes(OptimizerSettings("sgd")) == {"momentum_buffer": None}
    assert slot_shapes(OptimizerSettings("sgd", options={"momentum": 0.0})) == {}


def test_a_model_declares_its_groups(tmp_path: Path) -> None:
    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = nn.Linear(5, 4).requires_grad_(False)
            self.slow, self.fast = nn.Linear(5, 4), nn.Linear(5, 4)

        def parameter_groups(self) -> list[dict[str, Any]]:
            return [
                {"params": [*self.slow.parameters()], "lr": 1e-3, "weight_decay": 0.0},
                {"params": [*self.frozen.parameters()]},
            ]

        def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
            state = batch["observations"]["state"]
            error = self.slow(state) + self.fast(state) - batch["actions"]
            return {"loss": error.square().mean()}

    ours = trainer(tmp_path, Grouped(), weight_decay=0.1, schedule="test-steps")
    slow, fast = ours.optimizer.param_groups
    assert (len(slow["params"]), slow["weight_decay"]) == (2, 0.0)
    assert (len(fast["params"]), fast["weight_decay"]) == (2, 0.1)
    assert ours.optimizer_step.set_learning_rates(0) == 1e-2
    assert (slow["lr"], fast["lr"]) == (1e-3, 1e-2)
    ours.optimizer_step.set_learning_rates(6)  # half of the 12 steps
    assert (slow["lr"], fast["lr"]) == pytest.approx((1e-4, 1e-3))
    ours.train()
    again = trainer(
        tmp_path / "b",
        Grouped(),
        weight_decay=0.1,
        schedule="test-steps",
        resume_from=str(tmp_path / "step_5.pt"),
    )
    again.train()
    for a, b in zip(ours.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_parameter_in_two_groups_is_refused(tmp_path: Path) -> None:
    class Twice(nn.Linear):
        def parameter_groups(self) -> list[dict[str, Any]]:
            return [{"params": [self.weight]}, {"params": [self.weight]}]

    with pytest.raises(UserError, match="names a parameter twice"):
        trainer(tmp_path, Twice(5, 4))


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Unknown optimizer 'adam'.*adamw"):
        TrainConfig(optimizer="adam").check()
    with pytest.raises(UserError, match=r"Unknown schedule 'cosin'.*cosine"):
        TrainConfig(schedule="cosin").check()
    with pytest.raises(UserError, match=r"'sgd' does not take optimizer\.options.*betas"):
        TrainConfig(optimizer="sgd", optimizer_options={"betas": [0.9, 0.9]}).check()
    trainer(tmp_path).train()
    with pytest.raises(UserError, match=r"the optimizer is adamw, here sgd\.$"):
        trainer(tmp_path, optimizer="sgd", resume_from=str(tmp_path / "step_5.pt"))


def test_linear_and_constant_schedules() -> None:
    linear = TrainConfig(lr=0.1, warmup_steps=2, max_steps=12, schedule="linear")
    rates = [linear.learning_rate(s) for s in (0, 1, 2, 7, 12)]
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.05, 0.0])
    constant = TrainConfig(lr=0.1, warmup_steps=2, max_steps=12, schedule="constant")
    assert [constant.learning_rate(s) for s in (0, 1, 2, 12)] == [0.05, 0.1, 0.1, 0.1]
