"""Compare data generation end to end with bare physics: control steps per second, in one run.

    python benchmarks/datagen_throughput.py
    python benchmarks/datagen_throughput.py --shard-episodes 1000 --workers 2
    python benchmarks/datagen_throughput.py --cameras wrist_cam,front_cam --env-name pick_place

Bare physics is `mujoco.batch.Batch` alone on all cores, stepping through the states and controls of whole
episodes of the expert: contacts make some steps twice as dear as others, so both must have as many of each.
Data generation is `generate_dataset` from call to return: environments, expert, recording, and the finished
file. Randomization is off and observations have no images. Physics is measured before and after each
generation, and the table shows medians of the repeats.

With `--cameras`, it measures images per second of a whole call (one per camera and step, with
randomization), and the fraction of time of each stage. Writing includes parts, the file and the syncs of
both; the rest is the expert, recording and start-up.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from simscaleai.datagen import generate_dataset, shards
from simscaleai.rendering import Renderer
from simscaleai.rollout import run_episodes
from simscaleai.sim import make_vec_env
from simscaleai.sim.batch_sim import BatchSim
from simscaleai.storage.episode_writer import EpisodeWriter

EPISODES = {"reach": 2000, "pick_place": 1000}
BARS = {"reach": 0.7, "pick_place": 0.85}  # of shards
WIDTH = 256  # environments that are stepped at once, by bare physics too
RECORDED_EPISODES = 512
BARE_SECONDS = 6.0  # of each measurement, at least
seconds = time.perf_counter


def record(env_name: str) -> tuple[Batch, NDArray[np.float64], int]:
    """A batch like the environment's, the state rows (m, WIDTH, nstate) with controls, substeps."""
    env = make_vec_env(env_name, WIDTH, autoreset_mode="disabled")
    rows: list[NDArray[np.float64]] = []
    step = env.sim.step

    def recording(nstep, env_ids=None):
        rows.append(env.sim.batch.state[slice(None) if env_ids is None else env_ids].copy())
        step(nstep, env_ids)

    env.sim.step = recording
    for _ in run_episodes(env, env.task.expert(), range(RECORDED_EPISODES)):
        pass
    states = np.concatenate(rows)
    whole = len(states) // WIDTH * WIDTH
    return Batch(env.model, WIDTH), states[:whole].reshape(-1, WIDTH, states.shape[1]), env.substeps


def bare_rate(batch: Batch, rows: NDArray[np.float64], substeps: int) -> float:
    """Control steps per second of physics alone."""
    began, steps = seconds(), 0
    while seconds() - began < BARE_SECONDS:
        for state in rows:
            batch.state[:] = state
            batch.step(nstep=substeps)
        steps += rows.shape[0] * batch.nsim
    return steps / (seconds() - began)


def datagen_rate(
    env_name: str, episodes: int, folder: str, shard_episodes: int | None, workers: int
) -> tuple[float, float]:
    """Control steps per second of a whole call, and the mean length of an episode."""
    began = seconds()
    stats = generate_dataset(
        env_name,
        episodes,
        str(Path(folder) / (f"{env_name}.h5" if shard_episodes is None else env_name)),
        policy_type="scripted",
        num_envs=WIDTH,
        domain_randomization=False,
        overwrite=True,
        show_progress=False,
        shard_episodes=shard_episodes,
        workers=workers,
    )
    return stats["total_steps"] / (seconds() - began), stats["mean_episode_length"]


class Clock:
    """Seconds spent in functions, by heading; one inside another counts for the inner one alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    def watch(self, owner: Any, name: str, heading: str) -> None:
        """Count the calls of `owner.name` under `heading`, for the rest of the process."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args, **kwargs):
            with self.under(heading):
                return function(*args, **kwargs)

        setattr(owner, name, timed)

    @contextlib.contextmanager
    def under(self, heading: str) -> Iterator[None]:
        began = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            whole = time.perf_counter() - began
            own = whole - self._inner.pop()
            self._inner[-1] += whole
            self.seconds[heading] = self.seconds.get(heading, 0.0) + own


def image_generation(env_name: str, cameras: list[str], size: int, episodes: int) -> None:
    """Print frames per second of image datagen and the time that each stage takes."""
    clock = Clock()
    clock.watch(Renderer, "render", "rendering")
    for name in ("step", "forward", "set_const", "reset"):
        clock.watch(BatchSim, name, "simulation")
    clock.watch(
        EpisodeWriter, "add_all", "compression"
    )  # without the following functions, which it calls
    clock.watch(EpisodeWriter, "_write", "writing")
    clock.watch(shards, "write_shard", "writing")
    read_shard = shards.read_shard

    def reading(shard):
        with clock.under("writing"):
            return iter(list(read_shard(shard)))

    shards.read_shard = reading
    settings = {"cameras": cameras, "image_size": size, "overwrite": True, "show_progress": False}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "images.h5")
        generate_dataset(env_name, 2, path, "scripted", max_steps=5, **settings)  # compiles
        clock.seconds.clear()
        stats = generate_dataset(env_name, episodes, path, "scripted", **settings)
    frames = stats["total_steps"] * len(cameras)
    seconds = stats["seconds"]
    clock.seconds["rest"] = seconds - sum(clock.seconds.values())
    table = Table("pixels", "frames", "frames/s", *clock.seconds, "MB", "kB/frame")
    fractions = (f"{value / seconds:.0%}" for value in clock.seconds.values())
    megabytes = stats["file_size_mb"]
    sizes = (f"{megabytes:.1f}", f"{1e3 * megabytes / frames:.1f}")
    table.add_row(str(size), str(frames), f"{frames / seconds:,.0f}", *fractions, *sizes)
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env-name", choices=sorted(EPISODES), help="only this one")
    parser.add_argument("--episodes", type=int, help="per dataset")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cameras", help="such as wrist_cam,front_cam: measure images")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument(
        "--cpu", action="store_true", help="count seconds of the processor, where others use it too"
    )
    parser.add_argument("--shard-episodes", type=int, help="write shards of so many episodes")
    parser.add_argument("--workers", type=int, default=1, help="processes; 1 runs in this one")
    args = parser.parse_args()
    if args.cpu:
        global seconds
        seconds = time.process_time
    if args.cameras:
        names, env_name = args.cameras.split(","), args.env_name or "pick_place"
        image_generation(env_name, names, args.image_size, args.episodes or 64)
        return
    table = Table("environment", "episodes", "steps each", "bare", "datagen", "ratio", "bar")
    for env_name in [args.env_name] if args.env_name else EPISODES:
        episodes = args.episodes or EPISODES[env_name]
        physics = record(env_name)
        bare, datagen, length = [bare_rate(*physics)], [], 0.0
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(args.repeats):
                rate, length = datagen_rate(
                    env_name, episodes, folder, args.shard_episodes, args.workers
                )
                datagen.append(rate)
                bare.append(bare_rate(*physics))
        # the speed of the machine changes: each generation against what was before and after it
        around = [(a + b) / 2 for a, b in itertools.pairwise(bare)]
        shares = [made / physics for made, physics in zip(datagen, around, strict=True)]
        values = (
            f"{length:.1f}",
            f"{statistics.median(around):,.0f}/s",
            f"{statistics.median(datagen):,.0f}/s",
            f"{statistics.median(shares):.2f}",
            f">= {BARS[env_name]}",
        )
        table.add_row(env_name, str(episodes), *values)
    Console().print(table)


if __name__ == "__main__":
    main()
