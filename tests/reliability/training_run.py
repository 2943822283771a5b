"""Training for the tests to kill: python training_run.py KIND FOLDER [auto].

steps      a run of 60 slow steps that saves every 5, in one process or in those of torchrun
unsaved    the same, saving at its end only
workers    the same, with two processes that read the data
saves      for every line on standard input, a process that does little else than save, until it is killed
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from simscaleai.distributed import Processes
from simscaleai.models import create_model
from simscaleai.training import TrainConfig, Trainer
from simscaleai.training.data.dummy import DummyTrajectoryDataset
from simscaleai.training.data.loader import make_loader

DATA = DummyTrajectoryDataset(101, obs_dim=5)
STEP_SECONDS = 0.03
COMMON: dict[str, Any] = {
    "batch_size": 8,
    "lr": 1e-2,
    "warmup_steps": 0,
    "device": "cpu",
    "log_every": 1,
    "use_tensorboard": False,
    "show_progress": False,
}


class Slow(nn.Module):
    """A model with dropout that takes its time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = create_model("bc", state_dim=5, hidden_dim=16, n_layers=2, dropout=0.3)

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        time.sleep(STEP_SECONDS)
        return self.inner(batch)


def steps(folder: Path, resume_from: str | None, save_every: int = 0, workers: int = 0) -> None:
    p = Processes.from_environment()
    (folder / f"{p.restarts}-{p.rank}.pid").write_text(str(os.getpid()))
    config = TrainConfig(
        **COMMON,
        checkpoint_dir=str(folder / "ck"),
        max_steps=60,
        save_every=save_every,
        resume_from=resume_from,
    )
    loader: Any = make_loader(DATA, 8 // p.size, rank=p.rank, world_size=p.size)
    if workers:
        loader = DataLoader(DATA, batch_size=8, shuffle=True, num_workers=workers)
    Trainer(Slow(), loader, config).train()


def saves(folder: Path) -> None:
    """Each save is told before and after: what is told is not lost with the process."""
    model = create_model("bc", state_dim=5, hidden_dim=512, n_layers=3)
    config = TrainConfig(
        **COMMON,
        checkpoint_dir=str(folder / "ck"),
        max_steps=10**6,
        save_every=1,
        keep_checkpoints=2,
        resume_from="auto",
    )
    trainer = Trainer(model, make_loader(DATA, 8), config)
    save = trainer.save_checkpoint

    def told(step: int, is_final: bool = False) -> Path:
        os.write(1, f"saving {step}\n".encode())
        path = save(step, is_final)
        os.write(1, f"saved {step}\n".encode())
        return path

    trainer.save_checkpoint = told  # type: ignore[method-assign]
    trainer.train()


if __name__ == "__main__":
    torch.set_num_threads(1)
    kind, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    if kind != "saves":
        resume_from = sys.argv[3] if len(sys.argv) > 3 else None
        steps(folder, resume_from, 5 * (kind == "steps"), 2 * (kind == "workers"))
        sys.exit()
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            saves(folder)
        os.write(1, f"started {child}\n".encode())
        os.waitpid(child, 0)
        os.write(1, b"ended\n")
