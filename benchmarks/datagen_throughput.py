"""Data generation end to end against bare physics: control steps per second, in one run.

    python benchmarks/datagen_throughput.py

Bare physics is `mujoco.batch.Batch` alone on all cores, stepping the very states and controls that
the expert's episodes went through (recorded beforehand). Data generation is `generate_dataset`, from
call to return: environments, expert, recording, and the finished file. Randomization is off and
observations have no images. The two take turns; the table shows medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from simscaleai.datagen import generate_dataset
from simscaleai.sim import make_vec_env

EPISODES = {"reach": 2000, "pick_place": 1000}
BAR = 0.6
WIDTH = 64
RECORDED_STEPS = 100


def record(env_name: str) -> tuple[Batch, list[NDArray[np.float64]], int]:
    """A batch like the environment's, the state rows (with controls) of each step, substeps."""
    env = make_vec_env(env_name, WIDTH, autoreset_mode="same_step")
    expert = env.task.expert()
    rows: list[NDArray[np.float64]] = []
    step = env.sim.step

    def recording(nstep, which=None):
        rows.append(env.sim.batch.state.copy())
        step(nstep, which)

    env.sim.step = recording
    obs, _ = env.reset(seed=0)
    for _ in range(RECORDED_STEPS):
        obs, *_ = env.step(expert.act(obs))
    return Batch(env.model, WIDTH), rows, env.substeps


def bare_rate(batch: Batch, rows: list[NDArray[np.float64]], substeps: int) -> float:
    """Control steps per second of physics alone."""
    began = time.perf_counter()
    for state in rows:
        batch.state[:] = state
        batch.step(nstep=substeps)
    return len(rows) * batch.nsim / (time.perf_counter() - began)


def datagen_rate(env_name: str, episodes: int, folder: str) -> tuple[float, float]:
    """Control steps per second of a whole call, and the mean length of an episode."""
    began = time.perf_counter()
    stats = generate_dataset(
        env_name,
        episodes,
        str(Path(folder) / f"{env_name}.h5"),
        policy_type="scripted",
        domain_randomization=False,
        overwrite=True,
        show_progress=False,
    )
    return stats["total_steps"] / (time.perf_counter() - began), stats["mean_episode_length"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env-name", choices=sorted(EPISODES), help="only this one")
    parser.add_argument("--episodes", type=int, help="per dataset")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    table = Table("environment", "episodes", "steps each", "bare", "datagen", "ratio", "bar")
    for env_name in [args.env_name] if args.env_name else EPISODES:
        episodes = args.episodes or EPISODES[env_name]
        physics = record(env_name)
        bare, datagen, length = [], [], 0.0
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(args.repeats):
                bare.append(bare_rate(*physics))
                rate, length = datagen_rate(env_name, episodes, folder)
                datagen.append(rate)
        a, b = statistics.median(bare), statistics.median(datagen)
        values = (f"{length:.1f}", f"{a:,.0f}/s", f"{b:,.0f}/s", f"{b / a:.2f}", f">= {BAR}")
        table.add_row(env_name, str(episodes), *values)
    Console().print(table)


if __name__ == "__main__":
    main()
