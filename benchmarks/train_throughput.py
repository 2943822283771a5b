"""Samples per second of behaviour cloning: a bare PyTorch loop against `Trainer`, in one run.

    python benchmarks/train_throughput.py [--steps 2000] [--repeats 5] [--threads 2]

Both train the same network on the same 25,000 made-up steps of pick_place (28-dimensional state) in
memory, with batches of 256 and the same fused AdamW. The bare loop does nothing else. `Trainer` also
normalizes, clips gradients, follows a schedule, checks that the loss is finite, logs and saves. The two
take turns, so that a machine that slows down does so for both; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from simscaleai.models import create_model
from simscaleai.models.normalization import Normalizer
from simscaleai.models.policy import ModelPolicy
from simscaleai.training import TrainConfig, Trainer
from simscaleai.training.data.dataset import DummyTrajectoryDataset
from simscaleai.training.data.loader import make_loader

STEPS_OF_DATA, STATE_DIM, BATCH = 25_000, 28, 256


def bare_loop(data: DummyTrajectoryDataset, steps: int) -> float:
    """Seconds of the loop that a person would write in a notebook."""
    batch = data.read(torch.arange(len(data)))
    states, actions = batch["observations"]["state"], batch["actions"]
    model = create_model("bc", state_dim=STATE_DIM)
    network = model.head
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    start = time.perf_counter()
    done = 0
    while done < steps:
        order = torch.randperm(len(states))
        for indices in order.split(BATCH)[: steps - done]:
            loss = F.mse_loss(network(states[indices]), actions[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
    return time.perf_counter() - start


def full_trainer(data: DummyTrajectoryDataset, steps: int, folder: Path) -> float:
    """Seconds of `Trainer.train`, its log and its final checkpoint included."""
    model = create_model("bc", state_dim=STATE_DIM)
    normalizer = Normalizer({"state": data.statistics()["state"]})
    policy = ModelPolicy(model, data.spec.obs, normalizer)
    config = TrainConfig(
        max_steps=steps,
        batch_size=BATCH,
        lr=1e-3,
        device="cpu",
        checkpoint_dir=str(folder),
        save_every=1000,
        show_progress=False,
    )
    trainer = Trainer(policy, make_loader(data, BATCH), config)
    start = time.perf_counter()
    trainer.train()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = DummyTrajectoryDataset(STEPS_OF_DATA, obs_dim=STATE_DIM)
    bare: list[float] = []
    full: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        bare_loop(data, 200)
        full_trainer(data, 200, Path(folder) / "warm")
        for i in range(args.repeats):
            bare.append(bare_loop(data, args.steps))
            full.append(full_trainer(data, args.steps, Path(folder) / str(i)))
    samples = args.steps * BATCH
    table = Table(
        title=f"BC, batch {BATCH}, {args.threads} threads, {args.repeats} x {args.steps} steps"
    )
    for heading in ("loop", "samples/s", "ms/step", "ratio", "per repeat"):
        table.add_column(heading, justify="left" if heading == "loop" else "right")
    for name, seconds in (("bare PyTorch", bare), ("Trainer", full)):
        table.add_row(
            name,
            f"{samples / median(seconds):,.0f}",
            f"{1000 * median(seconds) / args.steps:.3f}",
            f"{median(bare) / median(seconds):.3f}",
            " ".join(f"{b / s:.2f}" for b, s in zip(bare, seconds, strict=True)),
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
