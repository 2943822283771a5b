"""A program whose gloo threads are still at work when it ends: python ending.py STRATEGY EXIT_CODE FOLDER."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from simscaleai.distributed import Processes
from simscaleai.models import create_model
from simscaleai.training import TrainConfig, Trainer
from simscaleai.training.data.dummy import DummyTrajectoryDataset
from simscaleai.training.data.loader import make_loader


def late(started: threading.Event) -> None:
    """What a gloo thread does, with the interpreter, when it lets go of a tensor: it takes its time."""
    if threading.current_thread() is not threading.main_thread():
        started.set()
        time.sleep(0.5)


class Slow:
    """What the interpreter takes down slowly at its end, if there are threads that may want it."""

    def __del__(self, sleep: Any = time.sleep, path: Any = Path) -> None:
        for _ in range(30):
            names = [(thread / "comm").read_text() for thread in path("/proc/self/task").iterdir()]
            if any("gloo" in name for name in names):
                sleep(0.1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    config = TrainConfig(
        batch_size=8,
        max_steps=2,
        warmup_steps=0,
        device="cpu",
        strategy=sys.argv[1],
        show_progress=False,
        use_tensorboard=False,
        checkpoint_dir=sys.argv[3],
    )
    model = create_model("bc", state_dim=5, hidden_dim=8, n_layers=1)
    processes = Processes.from_environment()
    size = 8 // processes.size
    loader = make_loader(
        DummyTrajectoryDataset(8, obs_dim=5), size, rank=processes.rank, world_size=processes.size
    )
    trainer = Trainer(model, loader, config)  # still there at the end
    trainer.train()
    started = threading.Event()
    while not started.wait(0.01):  # until it was the thread that had the last reference
        tensor = torch.ones(1)
        weakref.finalize(tensor, late, started).atexit = False
        work = dist.all_reduce(tensor, async_op=True)
        del tensor, work
    sys.slow = Slow()  # type: ignore[attr-defined]  # taken down late
    sys.exit(int(sys.argv[2]))
