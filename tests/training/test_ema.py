from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from simscaleai.models import create_model
from simscaleai.models.policy import ModelPolicy
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.training import TrainConfig, Trainer
from simscaleai.training.data.dummy import DummyTrajectoryDataset
from simscaleai.training.data.loader import make_loader
from simscaleai.training.ema import Ema

DATA = DummyTrajectoryDataset(40, obs_dim=5)


def test_average_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    ema = Ema([weight], decay=0.5)
    # Decays are min(0.5, 2/11), min(0.5, 3/12), and so on: 0.18, 0.25, 0.31, ...
    expected = 1.0
    for step, value in enumerate((3.0, 5.0, 2.0, 8.0, 1.0, 0.0, 0.0, 0.0, 0.0, 4.0), 1):
        weight.data.fill_(value)
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert min(0.5, 11 / 20) == 0.5  # the last one was the decay that was asked for
    assert ema.averages[0].item() == pytest.approx(expected)


def test_averages_take_the_place_of_weights_for_a_while() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    ema = Ema([weight], 0.9)
    weight.data.fill_(2.0)
    with pytest.raises(RuntimeError), ema.in_place_of_weights():
        assert weight.item() == 1.0
        raise RuntimeError
    assert weight.item() == 2.0 and ema.averages[0].item() == 1.0


def trainer(folder: Path, **kwargs: Any) -> Trainer:
    base: dict[str, Any] = {"batch_size": 8, "lr": 1e-2, "max_steps": 6, "warmup_steps": 0}
    base |= {"device": "cpu", "show_progress": False, "use_tensorboard": False, "save_every": 3}
    torch.manual_seed(0)

    model = create_model("bc", state_dim=5, hidden_dim=16, n_layers=2, dropout=0.0)
    config = TrainConfig(**{**base, "checkpoint_dir": str(folder), **kwargs})
    return Trainer(model, make_loader(DATA, 8), config, make_loader(DATA, 8, shuffle=False))


def test_the_policy_of_a_checkpoint_has_the_average_and_the_run_goes_on_without(
    tmp_path: Path,
) -> None:
    ours = trainer(tmp_path / "a", ema_decay=0.99)
    plain = trainer(tmp_path / "b")
    metrics = ours.train()
    plain.train()
    for a, b in zip(ours.optimizer_step.parameters, plain.optimizer_step.parameters, strict=True):
        assert torch.equal(a, b)  # averaging does not touch the training
    assert ours.optimizer_step.ema is not None
    name, average = "head.net.0.weight", ours.optimizer_step.ema.averages[0]
    payload = load_checkpoint(tmp_path / "a/final.pt")
    assert torch.equal(payload["weights"][name], average)
    assert torch.equal(payload["raw_weights"][name], ours.optimizer_step.parameters[0])
    assert "raw_weights" not in load_checkpoint(tmp_path / "b/final.pt")
    policy = ModelPolicy.from_checkpoint(tmp_path / "a/final.pt", device="cpu")
    assert torch.equal(policy.model.head.net[0].weight, average)
    # "eval_loss" is that of the average, too
    with torch.no_grad():
        batch = DATA.collate(DATA.__getitems__(range(40)))
        assert policy.model(batch)["loss"].item() == pytest.approx(metrics["eval_loss"], rel=1e-5)


def test_resume_is_bit_exact_and_the_average_may_come_and_go(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "a", ema_decay=0.9)
    whole.train()
    start = str(tmp_path / "a/step_3.pt")
    resumed = trainer(tmp_path / "b", ema_decay=0.9, resume_from=start)
    resumed.train()
    assert whole.optimizer_step.ema and resumed.optimizer_step.ema
    for a, b in zip(
        whole.optimizer_step.ema.averages, resumed.optimizer_step.ema.averages, strict=True
    ):
        assert torch.equal(a, b)
    without = trainer(tmp_path / "c", resume_from=start)
    without.train()
    for a, b in zip(
        whole.optimizer_step.parameters, without.optimizer_step.parameters, strict=True
    ):
        assert torch.equal(a, b)
    later = trainer(tmp_path / "d", resume_from=str(tmp_path / "c/final.pt"), ema_decay=0.9)
    assert later.optimizer_step.ema
    for a, b in zip(
        later.optimizer_step.parameters, later.optimizer_step.ema.averages, strict=True
    ):
        assert torch.equal(a, b)
