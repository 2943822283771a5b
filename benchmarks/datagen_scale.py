"""Datasets in shards: the same content from every engine, opening, training, and a run with images.

    python benchmarks/datagen_scale.py [--only engines open train images] [--scale 1.0] [--cpu]

engines  content hash of one file, and of shards made by one process, two processes, submitit (local) and Ray
open     seconds and memory from opening a folder of 100,000 episodes to the third training step
train    samples per second of `Trainer` from 100 shards and from one file with the same samples, in turns,
         reading them included, and the share of the time that was spent waiting for data
images   pick_place with two 64-pixel cameras in shards, by two processes: episodes per second and memory in
         each tenth of the run, and the share of the speed of drawing alone

The data of `open` and `train` is synthetic: one shard is written and copied. `--scale` makes everything
smaller; the tables say what was run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table
from train_throughput import waiting

from simscaleai.contract import EnvContract
from simscaleai.datagen import generate_dataset, sharded_output
from simscaleai.datagen.shard_file import read_row
from simscaleai.sim import make_vec_env
from simscaleai.storage.env_args import env_args_text
from simscaleai.storage.episode import Episode
from simscaleai.storage.episode_writer import EpisodeWriter, fits_raw
from simscaleai.storage.manifest import Manifest, write_manifest
from simscaleai.storage.shard_row import shard_name

CONTRACT = EnvContract(
    "synthetic",
    {},
    {"ee_pos": (3,), "joint_pos": (7,), "joint_vel": (7,), "object_pos": (3,), "target_pos": (3,)},
    dict.fromkeys(("ee_pos", "joint_pos", "joint_vel", "object_pos", "target_pos"), "float32"),
    4,
    0.05,
)
BATCH = 256
clock = time.perf_counter


def synthetic(i: int, steps: int) -> Episode:
    """An episode of random vectors, of the size of those of reach."""
    rng = np.random.default_rng(i)
    obs = {
        k: rng.normal(size=(steps, *s)).astype(np.float32) for k, s in CONTRACT.obs_shapes.items()
    }
    actions = rng.uniform(-1, 1, (steps, 4)).astype(np.float32)
    zeros = np.zeros(steps)
    return Episode(obs, actions, zeros.astype(np.float32), zeros > 0, rng.normal(size=(steps, 20)))


def write_shards(folder: Path, shards: int, episodes: int, steps: int) -> None:
    """Write a folder of `shards` copies of a shard of synthetic episodes."""
    folder.mkdir(parents=True)
    first = folder / shard_name(0)
    # as data generation writes shards of states
    with EpisodeWriter(first, CONTRACT, raw=fits_raw(CONTRACT, episodes, steps)) as writer:
        writer.add_all((i, synthetic(i, steps)) for i in range(episodes))
    row = read_row(first)
    rng = np.random.default_rng(0)  # copies with the seeds and digests of different episodes
    rows = [
        replace(
            row,
            shard=shard_name(j),
            seeds=rng.integers(2**63, size=episodes, dtype=np.uint64),
            digests=rng.bytes(len(row.digests)),
        )
        for j in range(shards)
    ]
    for row in rows[1:]:
        shutil.copyfile(first, folder / row.shard)
    about = {"env_args": env_args_text(CONTRACT), "arrays": row.arrays, "shards": shards}
    write_manifest(folder, Manifest(rows, about))


def engines(scale: float, folder: Path) -> Table:
    """The same content from every engine."""
    settings = {
        "env_name": "reach",
        "n_episodes": max(8, int(200 * scale)),
        "policy_type": "scripted",
        "noise": 0.2,
        "show_progress": False,
    }
    table = Table(
        "made by", "content hash", "seconds", title=f"engines: {settings['n_episodes']} episodes"
    )
    ways: dict[str, dict] = {"one file, one process": {}}
    shards = {"shard_episodes": settings["n_episodes"] // 8}
    ways |= {
        "shards, one process": shards,
        "shards, 2 processes": {**shards, "workers": 2},
        "shards, submitit (local)": {**shards, "workers": 2, "executor": "slurm:cluster=local"},
        "shards, Ray (local)": {**shards, "workers": 2, "executor": "ray"},
    }
    found = set()
    for name, how in ways.items():
        made = generate_dataset(output_path=folder / name.replace(" ", "-"), **settings, **how)
        found.add(made["content_hash"])
        table.add_row(name, made["content_hash"][:16], f"{made['seconds']:.1f}")
    assert len(found) == 1, found
    return table


def opening(scale: float, folder: Path) -> Table:
    """Opening a large dataset and starting to train, in a process of its own."""
    shards, episodes, steps = max(2, int(100 * scale)), 1000, 12
    write_shards(folder, shards, episodes, steps)
    table = Table(
        "imports, s",
        "opening, s",
        "to the third step, s",
        "memory of imports, MB",
        "peak, MB",
        title=f"open: {shards * episodes:,} episodes of {steps} steps in {shards} shards; bars: 5 s, 1 GB",
    )
    for _ in range(3):
        command = [sys.executable, __file__, "--child", str(folder)]
        command += ["--cpu"] * (clock is time.process_time)
        found = json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout
        )
        table.add_row(*(f"{value:,.2f}" for value in found))
    return table


def child(folder: str) -> None:
    """Open a dataset and take three training steps; print seconds and megabytes as JSON."""
    began = clock()
    import torch._dynamo  # noqa: F401  # what PyTorch's first optimizer imports

    from simscaleai.storage.episodes import open_dataset
    from simscaleai.training import TrainConfig, build_trainer

    imported, base = clock(), memory()
    with open_dataset(folder) as data:
        assert len(data)
    opened = clock()
    with tempfile.TemporaryDirectory() as place:
        config = TrainConfig(
            dataset_path=folder,
            max_steps=3,
            batch_size=BATCH,
            device="cpu",
            eval_every=0,
            checkpoint_dir=place,
            use_tensorboard=False,
            show_progress=False,
        )
        build_trainer(config).train()
    seconds = imported - began, opened - imported, clock() - imported
    print(json.dumps([*seconds, base, memory()]))


def memory() -> float:
    """Peak memory of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def training(scale: float, folder: Path) -> Table:
    """Training from shards and from one file with the same samples."""
    from simscaleai.training import TrainConfig, build_trainer

    shards, steps = 100, 100
    episodes = max(4, int(100 * scale))
    write_shards(folder / "shards", shards, episodes, steps)
    with EpisodeWriter(folder / "one.h5", CONTRACT) as writer:
        writer.add_all((i, synthetic(i % episodes, steps)) for i in range(shards * episodes))

    def rate(path: Path, cache_mb: float | None, run: int) -> tuple[float, float]:
        """Samples per second, and the share of the time spent waiting for them."""
        config = TrainConfig(
            dataset_path=str(path),
            max_steps=max(50, int(3000 * scale)),
            batch_size=BATCH,
            device="cpu",
            eval_every=0,
            cache_mb=cache_mb,
            checkpoint_dir=str(folder / f"run-{run}-{path.stem}-{cache_mb}"),
            use_tensorboard=False,
            show_progress=False,
        )
        began = clock()  # a file is read when the trainer is built, shards by the first steps
        build_trainer(config).train()
        log = Path(config.checkpoint_dir)
        spent = clock() - began
        return config.max_steps * BATCH / spent, waiting(log, spent, config.max_steps)

    ways = {
        "one file, in memory": (folder / "one.h5", None),
        "100 shards, in memory": (folder / "shards", None),
        "100 shards, in blocks (cache_mb=0)": (folder / "shards", 0.0),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    waits: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(3):
        for name, (path, cache_mb) in ways.items():
            found, waited = rate(path, cache_mb, run)
            rates[name].append(found)
            waits[name].append(waited)
    table = Table(
        "data",
        "samples/s",
        "share",
        "in each repeat",
        "waiting",
        title=f"train: {shards * episodes * steps:,} samples of states; bars: a share >= 0.95 in memory,"
        " waiting <= 5 % in blocks",
    )
    base = rates["one file, in memory"]
    for name, found in rates.items():
        shares = " ".join(f"{a / b:.2f}" for a, b in zip(found, base, strict=True))
        share = f"{median(found) / median(base):.3f}"
        waited = f"{100 * median(waits[name]):.1f} %"
        table.add_row(name, f"{median(found):,.0f}", share, shares, waited)
    return table


def images(scale: float, folder: Path) -> Table:
    """A run of pick_place with images by two processes, tenth by tenth."""
    count = max(20, round(20_000 * scale / 40))
    cameras, size, per_shard = ("wrist_cam", "front_cam"), 64, 40
    moments: list[tuple[float, int, float]] = []
    add = sharded_output.ShardsInProgress.add

    def note(output, row):
        moments.append((clock(), int(row.lengths.sum()), workers_memory()))
        add(output, row)

    sharded_output.ShardsInProgress.add = note
    before = drawing_rate(cameras, size)
    began = clock()
    generate_dataset(
        "pick_place", count * per_shard, folder / "big", policy_type="scripted", cameras=cameras,
        image_size=size, shard_episodes=per_shard, workers=2, show_progress=False,
    )  # fmt: skip
    sharded_output.ShardsInProgress.add = add
    # the speed of the machine changes: the run against what was before and after it
    drawing = (before + drawing_rate(cameras, size)) / 2
    table = Table(
        "shards",
        "episodes/s",
        "frames/s",
        "share of drawing alone",
        "memory of both, MB",
        title=f"images: {count * per_shard:,} episodes in shards of {per_shard}, two {size}-pixel cameras,"
        f" two processes; drawing alone on both cores {drawing:,.0f} frames/s; bar: a share >= 0.85",
    )
    for tenth in [*np.array_split(np.arange(count), 10), np.arange(count)]:
        first = moments[tenth[0] - 1][0] if tenth[0] else began
        seconds = moments[tenth[-1]][0] - first
        frames = 2 * sum(moments[j][1] for j in tenth) / seconds
        table.add_row(
            f"{tenth[0]} to {tenth[-1]}",
            f"{per_shard * len(tenth) / seconds:.2f}",
            f"{frames:,.0f}",
            f"{frames / drawing:.2f}",
            f"{max(moments[j][2] for j in tenth):,.0f}",
        )
    return table


def workers_memory() -> float:
    """Resident memory of the processes that this one has started, now, MB."""
    pages = 0
    for process in multiprocessing.active_children():
        pages += int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def drawing_rate(cameras: tuple[str, ...], size: int) -> float:
    """Frames per second of drawing alone, on all cores, of what the expert's episodes look like."""
    from simscaleai.sim.scene_cameras import scene_cameras

    settings = {"domain_randomization": True, "autoreset_mode": "same_step"}
    env = make_vec_env(
        "pick_place", 40, cameras=scene_cameras("pick_place", cameras, size), **settings
    )
    expert, draw = env.task.expert(), env.core.render
    frames, spent = 0, 0.0

    def timed(depth, segmentation, changed=None):
        nonlocal frames, spent
        began = clock()
        images = draw(depth, segmentation, changed)
        spent += clock() - began
        frames += len(cameras) * (40 if changed is None else len(changed))
        return images

    obs, _ = env.reset(seed=0)  # draws for the first time, which compiles
    env.core.render = timed
    for _ in range(60):  # two episodes and more
        obs, *_ = env.step(expert.act(obs))
    return frames / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {"engines": engines, "open": opening, "train": training, "images": images}
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--scale", type=float, default=1.0, help="of the sizes; 1 for the bars")
    parser.add_argument(
        "--cpu", action="store_true", help="count seconds of the processor, where others use it too"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cpu:
        global clock
        clock = time.process_time
    if args.child:
        child(args.child)
        return
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            Console(width=120).print(parts[name](args.scale, Path(folder) / name))


if __name__ == "__main__":
    main()
