"""Signals in the middle of a run; those that go to other processes are in tests/reliability."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from simscaleai.models import create_model
from simscaleai.stopping import Stopped
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.training import TrainConfig, Trainer
from simscaleai.training.data.dummy import DummyTrajectoryDataset
from simscaleai.training.data.loader import make_loader

DATA = DummyTrajectoryDataset(40, obs_dim=5)


class Signalled(nn.Module):
    """A model in whose `at`-th step signals arrive."""

    def __init__(self, at: int, *numbers: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = create_model("bc", state_dim=5, hidden_dim=16, n_layers=2, dropout=0.3)
        self.at, self.numbers, self.calls = at, numbers, 0

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        self.calls += 1
        if self.calls == self.at:
            for number in self.numbers:
                os.kill(os.getpid(), number)
        return self.inner(batch)


def trainer(folder: Path, model: nn.Module, **kwargs: Any) -> Trainer:
    base: dict[str, Any] = {"batch_size": 8, "lr": 1e-2, "max_steps": 12, "warmup_steps": 0}
    base |= {"device": "cpu", "show_progress": False, "use_tensorboard": False}
    eval_fn = kwargs.pop("eval_fn", None)
    config = TrainConfig(**{**base, "checkpoint_dir": str(folder), **kwargs})
    return Trainer(model, make_loader(DATA, 8), config, eval_fn=eval_fn)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_step_is_finished_and_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    whole = Signalled(0)
    trainer(tmp_path / "whole", whole).train()
    with pytest.raises(Stopped) as stopped:
        trainer(tmp_path / "ck", Signalled(4, number), show_progress=True).train()
    assert (stopped.value.code, stopped.value.step) == (code, 4)
    assert load_checkpoint(tmp_path / "ck/last")["step"] == 4
    said = capsys.readouterr().err
    assert "Stopped at step 4" in said and "resume with --resume auto" in said
    resumed = Signalled(0)
    assert trainer(tmp_path / "ck", resumed, resume_from="auto").train()["step"] == 12
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key])


def test_the_second_ctrl_c_acts_at_once(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, Signalled(4, signal.SIGINT, signal.SIGINT)).train()
    assert not list(tmp_path.glob("*.pt"))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_long_evaluation_is_left(tmp_path: Path) -> None:
    def evaluate(net: nn.Module) -> float:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        return 0.0

    started = time.monotonic()
    ours = trainer(tmp_path, Signalled(0), eval_every=3, eval_fn=evaluate)
    with pytest.raises(Stopped):
        ours.train()
    assert time.monotonic() - started < 10
    assert ours.model.training
    assert load_checkpoint(tmp_path / "last")["step"] == 3
    assert not (tmp_path / "best.pt").exists()


def test_a_signal_in_the_last_step_changes_nothing(tmp_path: Path) -> None:
    assert trainer(tmp_path, Signalled(12, signal.SIGTERM)).train()["step"] == 12
    assert (tmp_path / "final.pt").exists()


def test_a_checkpoint_that_was_due_is_not_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    ours = trainer(tmp_path, Signalled(4, signal.SIGTERM), save_every=2)
    save = ours._write
    monkeypatch.setattr(ours, "_write", lambda *args: written.append(args[0]) or save(*args))
    with pytest.raises(Stopped):
        ours.train()
    assert written == ["step_2.pt", "step_4.pt"]
