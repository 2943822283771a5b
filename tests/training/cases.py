"""Training runs for the tests: python cases.py CASES.json, once in each process.

A case is one run of `Trainer`. All cases of a file are run one after the other by the same processes, as
starting those takes most of the time.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.models import create_model
from simscaleai.stopping import Stopped
from simscaleai.training import TrainConfig, Trainer
from simscaleai.training.data.dummy import DummyTrajectoryDataset
from simscaleai.training.data.loader import make_loader

# 51 samples in batches of 8 leave a last one of 3: two processes have unequal parts, of four one has none.
DATA = DummyTrajectoryDataset(51, obs_dim=5)
HELD_OUT = DummyTrajectoryDataset(11, obs_dim=5, seed=1)
EPOCH = 7


class Watched(nn.Module):
    """A model to which something happens in one process, at one of its calls."""

    def __init__(self, event: str, at: int, rank: int) -> None:
        super().__init__()
        self.model = make_model()
        self.event, self.at, self.rank, self.calls = event, at, rank, 0

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        outputs = self.model(batch)
        self.calls += 1
        if self.calls == self.at and Processes.from_environment().rank == self.rank:
            if self.event == "infinite":
                outputs["loss"] = outputs["loss"] + float("inf")
            else:
                os.kill(os.getpid(), getattr(signal, self.event))
        return outputs


class Blocks(nn.Module):
    """Layers in a list, each of which FSDP2 puts together by itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(5, 5) for _ in range(3))
        self.head = nn.Linear(5, 4)

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        x = batch["observations"]["state"]
        for layer in self.layers:
            x = x + layer(x).tanh()
        loss = (self.head(x) - batch["actions"]).square().mean()
        return {"loss": loss, "constant": x.new_tensor(1.0)}


def make_model(**kwargs: Any) -> nn.Module:
    torch.manual_seed(Processes.from_environment().rank)  # the main process's weights count
    return create_model("bc", **{"state_dim": 5, "hidden_dim": 16, "n_layers": 2, **kwargs})


def make_trainer(
    folder: Path,
    model: nn.Module | None = None,
    *,
    dropout: float = 0.0,
    closed_loop: bool = True,
    **kwargs: Any,
) -> Trainer:
    base: dict[str, Any] = {"batch_size": 8, "lr": 1e-2, "max_steps": 16, "log_every": 1}
    base |= {"warmup_steps": 0, "device": "cpu", "show_progress": False, "use_tensorboard": False}
    config = TrainConfig(**{**base, "keep_checkpoints": 0, "checkpoint_dir": str(folder), **kwargs})
    p = Processes.from_environment()

    def loader(data: DummyTrajectoryDataset, shuffle: bool) -> Any:
        size = max(config.batch_size // p.size, 1)
        return make_loader(data, size, shuffle=shuffle, rank=p.rank, world_size=p.size)

    return Trainer(
        model or make_model(dropout=dropout),
        loader(DATA, True),
        config,
        loader(HELD_OUT, False),
        (lambda net: {"weight": float(next(net.parameters()).detach().sum())})
        if closed_loop
        else None,
    )


def run_case(case: dict[str, Any]) -> dict[str, Any]:
    """What came of it in this process."""
    case = dict(case)
    folder, watched = Path(case.pop("folder")), case.pop("watched", None)
    model = Blocks() if case.pop("blocks", False) else Watched(*watched) if watched else None
    try:
        return {"metrics": make_trainer(folder, model, **case).train()}
    except UserError as error:
        return {"error": str(error)}
    except Stopped as stopped:
        return {"stopped": stopped.step, "code": stopped.code}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps([run_case(case) for case in json.loads(Path(sys.argv[1]).read_text())]))
