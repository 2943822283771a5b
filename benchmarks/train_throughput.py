"""What data and `Trainer` cost beside the arithmetic of a model: four tables, each of ratios in one run.

    python benchmarks/train_throughput.py [--only state image loader step] [--repeats 5] [--threads 2]

state   behavior cloning of a state: `Trainer` with all that it does (normalization, schedule, clipping,
        checks, logs, checkpoints) against a bare PyTorch loop on tensors in memory
image   behavior cloning of images in a gzipped HDF5 file: the share of the time that is spent waiting for
        data, with images kept in memory and read by two workers
loader  loaders alone: ours against one that reads sample by sample, on a state and on images
step    `Trainer` around a model that computes for 10 ms: what a step costs more than in a bare loop

What is compared takes turns, so that a machine that slows down does so for both, and a ratio is that of
medians.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn

from simscaleai.contract import EnvContract
from simscaleai.models import create_model
from simscaleai.models.normalization import Normalizer
from simscaleai.models.policy import ModelPolicy
from simscaleai.storage.episodes import Episode, EpisodeWriter
from simscaleai.training import TrainConfig, Trainer
from simscaleai.training.data.bench import bench_loader
from simscaleai.training.data.dataset import DummyTrajectoryDataset, TrajectoryDataset
from simscaleai.training.data.loader import make_loader

STEPS_OF_DATA, STATE_DIM, BATCH = 25_000, 28, 256
IMAGE_SIZE, IMAGE_BATCH, EPISODE_STEPS = 64, 64, 100
STEP_SECONDS = 0.010

AnyDataset = TrajectoryDataset | DummyTrajectoryDataset


def write_dataset(path: Path, episodes: int, image_size: int = 0) -> Path:
    """A dataset of random states and, if wanted, of images that compress like rendered ones."""

    def episode(i: int) -> Episode:
        rng = np.random.default_rng(i)
        obs: dict[str, Any] = {
            key: rng.normal(size=(EPISODE_STEPS, width)).astype(np.float32)
            for key, width in (("ee_pos", 3), ("joint_pos", 7), ("object_pos", 3), ("rest", 15))
        }
        if image_size:
            start, end = rng.uniform(0.2, 0.8, (2, 2))
            path = np.linspace(start, end, EPISODE_STEPS)
            obs["image"] = np.stack([synthetic_image(image_size, place) for place in path])
        actions = rng.uniform(-1, 1, (EPISODE_STEPS, 4)).astype(np.float32)
        zeros = np.zeros(EPISODE_STEPS)
        return Episode(obs, actions, zeros.astype(np.float32), zeros > 0, zeros[:, None])

    with EpisodeWriter(path, EnvContract("synthetic", {}, {}, {}, 4, 0.05)) as writer:
        writer.add_all((i, episode(i)) for i in range(episodes))
    return path


def synthetic_image(size: int, place: np.ndarray) -> np.ndarray:
    """A shaded ball at `place` in [0, 1]^2 over a checkered floor, (size, size, 3) uint8."""
    y, x = np.mgrid[0:size, 0:size] / size
    floor = 90 + 60 * y + 25 * ((8 * x / (0.4 + y)).astype(int) + (10 * y).astype(int) & 1)
    distance = ((x - place[0]) ** 2 + (y - place[1]) ** 2) / 0.15**2
    ball = np.array([200, 60, 50]) * (1 - 0.5 * distance[..., None])
    return np.where(distance[..., None] < 1, ball, floor[..., None]).astype(np.uint8)


def bare_loop(
    network: nn.Module, states: torch.Tensor, actions: torch.Tensor, batch: int, steps: int
) -> float:
    """Seconds of the loop that a person would write in a notebook."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    start = time.perf_counter()
    done = 0
    while done < steps:
        order = torch.randperm(len(states))
        for indices in order.split(batch)[: steps - done]:
            loss = F.mse_loss(network(states[indices]), actions[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
    return time.perf_counter() - start


def full_trainer(
    model: nn.Module, data: AnyDataset, batch: int, steps: int, folder: Path, workers: int = 0
) -> float:
    """Seconds of `Trainer.train`, its logs and checkpoints included."""
    normalizer = Normalizer({"state": data.statistics()["state"]})
    config = TrainConfig(
        max_steps=steps,
        batch_size=batch,
        lr=1e-3,
        device="cpu",
        checkpoint_dir=str(folder),
        save_every=1000,
        log_every=min(100, steps),
        show_progress=False,
    )
    loader = make_loader(data, batch, num_workers=workers)
    trainer = Trainer(ModelPolicy(model, data.spec.obs, normalizer), loader, config)
    start = time.perf_counter()
    trainer.train()
    return time.perf_counter() - start


def compare(
    bare: Callable[[], float], full: Callable[[Path], float], repeats: int, folder: Path
) -> tuple[list[float], list[float]]:
    """Seconds of both, taking turns, after a warm-up."""
    bare(), full(folder / "warm")
    seconds = [(bare(), full(folder / str(i))) for i in range(repeats)]
    return [b for b, _ in seconds], [f for _, f in seconds]


def state_table(folder: Path, steps: int, repeats: int) -> Table:
    """Behavior cloning of a state, and how much of the bare loop's speed is left."""
    data = DummyTrajectoryDataset(STEPS_OF_DATA, obs_dim=STATE_DIM)
    everything = data.read(torch.arange(len(data)))
    states, actions = everything["observations"]["state"], everything["actions"]

    def model() -> Any:
        return create_model("bc", state_dim=STATE_DIM)

    bare, full = compare(
        lambda: bare_loop(model().head, states, actions, BATCH, steps),
        lambda path: full_trainer(model(), data, BATCH, steps, path),
        repeats,
        folder,
    )
    table = new_table(
        f"state: behavior cloning, batches of {BATCH}, {steps} steps; bar: a share >= 0.8",
        ("loop", "samples/s", "ms/step", "share of bare", "in each repeat"),
    )
    for name, seconds in (("bare PyTorch", bare), ("Trainer", full)):
        rate = steps * BATCH / median(seconds)
        shares = " ".join(f"{b / s:.2f}" for b, s in zip(bare, seconds, strict=True))
        share = f"{median(bare) / median(seconds):.3f}"
        table.add_row(name, f"{rate:,.0f}", f"{1000 * median(seconds) / steps:.3f}", share, shares)
    return table


def image_table(folder: Path, steps: int, repeats: int) -> Table:
    """Behavior cloning of images from a file: waiting, from the first batch on, as `Trainer` logs it."""
    path = write_dataset(folder / "images.h5", 60, IMAGE_SIZE)
    table = new_table(
        f"image: behavior cloning of {IMAGE_SIZE}x{IMAGE_SIZE} images, batches of {IMAGE_BATCH}, {steps}"
        " steps; bar: waiting <= 5 %",
        ("images", "samples/s", "ms/step", "waiting for data", "in each repeat"),
    )
    for name, cache_mb, workers in (("kept in memory", None, 0), ("read by 2 workers", 0, 2)):
        waits, seconds = [], []
        for i in range(repeats):
            data = TrajectoryDataset(path, split="train", cache_mb=cache_mb)
            model = create_model("bc", state_dim=STATE_DIM, use_image=True, image_size=IMAGE_SIZE)
            run = folder / f"images-{workers}-{i}"
            seconds.append(full_trainer(model, data, IMAGE_BATCH, steps, run, workers))
            waits.append(waiting(run, seconds[-1], steps))
        table.add_row(
            name,
            f"{steps * IMAGE_BATCH / median(seconds):,.0f}",
            f"{1000 * median(seconds) / steps:.2f}",
            f"{100 * median(waits):.1f} %",
            " ".join(f"{100 * wait:.1f}" for wait in waits),
        )
    return table


def waiting(run: Path, seconds: float, steps: int) -> float:
    """The share of a run's seconds in which it waited for data, out of its log."""
    waited, before = 0.0, 0
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "data_seconds" in record:  # of a step, a mean since the record before
            waited += record["data_seconds"] * (record["step"] - before)
            before = record["step"]
    assert before == steps, f"the log of {run} ends at step {before}"
    return waited / seconds


def loader_table(folder: Path, seconds: float) -> Table:
    """Loaders alone."""
    table = new_table(
        "loader: shuffled batches; bars: 10 x the loaders that read sample by sample on a state, 3 x on"
        " images",
        ("data", "loader", "samples/s", "MB/s", "first batch", "x sample by sample"),
    )
    cases = (
        (f"state, batch {BATCH}", write_dataset(folder / "state.h5", 250), BATCH, 1),
        (f"windows of 16, batch {BATCH}", folder / "state.h5", BATCH, 16),
        (
            f"{IMAGE_SIZE}x{IMAGE_SIZE} images, batch {IMAGE_BATCH}",
            write_dataset(folder / "loader.h5", 30, IMAGE_SIZE),
            IMAGE_BATCH,
            1,
        ),
    )
    for name, path, batch, seq_len in cases:
        speeds = bench_loader(path, batch, 0, seq_len, seconds)
        theirs = [s.samples_per_second for s in speeds[-2:]]
        for speed in speeds:
            ratios = " ".join(f"{speed.samples_per_second / rate:,.1f}" for rate in theirs)
            table.add_row(
                name,
                speed.name,
                f"{speed.samples_per_second:,.0f}",
                f"{speed.megabytes_per_second:,.1f}",
                f"{1000 * speed.first_batch_seconds:,.0f} ms",
                ratios,
            )
            name = ""
        table.add_section()
    return table


class Burner(nn.Module):
    """A small network behind `rounds` products of matrices, which are nothing but work."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.network = nn.Linear(STATE_DIM, 4)
        self.register_buffer("work", torch.eye(192))

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        predicted = self.predict(batch["observations"])
        return {"loss": F.mse_loss(predicted, batch["actions"]), "predicted_actions": predicted}

    def predict(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
        self.burn()
        return self.network(obs["state"])

    def burn(self) -> None:
        with torch.no_grad():
            for _ in range(self.rounds):
                self.work = self.work @ self.work  # of the identity: stays it


class BareBurner(nn.Module):
    """The same for the bare loop: a state in, an action out."""

    def __init__(self, burner: Burner) -> None:
        super().__init__()
        self.burner = burner

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.burner.predict({"state": states})


def step_table(folder: Path, steps: int, repeats: int) -> Table:
    """What `Trainer` adds to a step of 10 ms."""
    data = DummyTrajectoryDataset(STEPS_OF_DATA, obs_dim=STATE_DIM)
    everything = data.read(torch.arange(len(data)))
    states, actions = everything["observations"]["state"], everything["actions"]
    rounds = calibrate()
    bare, full = compare(
        lambda: bare_loop(BareBurner(Burner(rounds)), states, actions, 32, steps),
        lambda path: full_trainer(Burner(rounds), data, 32, steps, path),
        repeats,
        folder,
    )
    table = new_table(
        f"step: a model of about {1000 * STEP_SECONDS:.0f} ms, {steps} steps; bar: overhead <= 3 %",
        ("loop", "ms/step", "overhead", "in each repeat"),
    )
    for name, seconds in (("bare PyTorch", bare), ("Trainer", full)):
        overheads = " ".join(f"{100 * (s / b - 1):.1f}" for b, s in zip(bare, seconds, strict=True))
        overhead = f"{100 * (median(seconds) / median(bare) - 1):.1f} %"
        table.add_row(name, f"{1000 * median(seconds) / steps:.3f}", overhead, overheads)
    return table


def calibrate() -> int:
    """How many rounds of a `Burner` take STEP_SECONDS here and now."""
    burner = Burner(50)
    burner.burn()
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        burner.burn()
        seconds.append(time.perf_counter() - start)
    return max(1, round(burner.rounds * STEP_SECONDS / median(seconds)))


def new_table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", min_width=110)
    for i, heading in enumerate(columns):
        table.add_column(heading, justify="left" if i == 0 else "right")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("state", "image", "loader", "step")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument(
        "--steps", type=int, default=2000, help="of the state; others scale with it"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    console = Console(width=120)
    console.print(f"{args.threads} threads, {args.repeats} repeats")
    steps, repeats = args.steps, args.repeats
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables: dict[str, Callable[[], Table]] = {
            "state": lambda: state_table(folder / "state", steps, repeats),
            "image": lambda: image_table(folder, max(1, steps // 5), max(1, repeats // 2)),
            "loader": lambda: loader_table(folder, steps / 500),
            "step": lambda: step_table(folder / "step", max(1, steps // 8), repeats),
        }
        for part in args.only:
            console.print(tables[part]())


if __name__ == "__main__":
    main()
