"""What the benchmarks of reinforcement learning share: a run of a recipe, timed and evaluated."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from simscaleai.config import load_config
from simscaleai.evaluation import evaluate_checkpoint
from simscaleai.evaluation.statistics import wilson_interval
from simscaleai.rl.settings import RLConfig
from simscaleai.rl.training import train_agent
from simscaleai.sim.batch_sim import BatchSim

ROOT = Path(__file__).resolve().parent.parent
EPISODES = 200
SUITE = 1000  # no seed of a recipe's own evaluations


def arguments(doc: str, seeds: int = 3) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=seeds, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0: one for each core")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    return parser


@contextmanager
def physics_clock():
    """A list that collects the seconds spent in stepping the simulation."""
    spent: list[float] = []
    original = BatchSim.step

    def timed(self: Any, *args: Any) -> None:
        start = time.perf_counter()
        original(self, *args)
        spent.append(time.perf_counter() - start)

    BatchSim.step = timed  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        BatchSim.step = original  # type: ignore[method-assign]


def seeds(args: argparse.Namespace) -> range:
    return range(args.first_seed, args.first_seed + args.seeds)


def run(
    recipe: str, name: str, seed: int, args: argparse.Namespace, **values: Any
) -> dict[str, Any]:
    """Train by a recipe, evaluate on unseen episodes, and say what it cost."""
    output, threads = args.output, args.threads
    if threads:
        torch.set_num_threads(threads)
    values = {"num_threads": threads, "seed": seed, "name": f"{name}_{seed}", **values}
    config = load_config(RLConfig, ROOT / "configs/rl" / recipe, **values)
    with physics_clock() as physics:
        start = time.perf_counter()
        done = train_agent(config)
        seconds = time.perf_counter() - start
        in_physics = sum(physics)
    found = evaluate_checkpoint(
        done["output_path"],
        n_episodes=EPISODES,
        seed=SUITE + seed,
        output_dir=output / f"{name}_{seed}",
        show_progress=False,
    )
    return {
        "seed": seed,
        "steps": done["timesteps"],
        "seconds": seconds,
        "steps_per_second": done["timesteps"] / seconds,
        "physics_share": in_physics / seconds,
        "success_rate": found["success_rate"],
        "mean_length": found["mean_length"],
        "curve": curve(config.folder / "metrics.jsonl"),
    }


def curve(path: Path) -> list[tuple[float, int, float]]:
    """(seconds since the start, steps, success) of each evaluation of a run."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        (line["seconds"], int(line["step"]), line["eval_success_rate"])
        for line in lines
        if "eval_success_rate" in line
    ]


def first_time(points: list[tuple[float, int, float]], success: float) -> float | None:
    """Seconds until an evaluation first succeeded at least so often."""
    return next((seconds for seconds, _, rate in points if rate >= success), None)


def report(title: str, results: list[dict[str, Any]], goal: float) -> None:
    """One table of the runs, and their medians."""
    table = Table(title=title)
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "seed": lambda r: str(r["seed"]),
        "steps": lambda r: f"{r['steps']:,}",
        "seconds": lambda r: f"{r['seconds']:.0f}",
        f"until {goal:.0%}": lambda r: _seconds(first_time(r["curve"], goal)),
        "steps/s": lambda r: f"{r['steps_per_second']:,.0f}",
        "in physics": lambda r: f"{r['physics_share']:.0%}",
        f"success, {EPISODES} unseen": lambda r: f"{r['success_rate']:.1%}",
        "95 %": lambda r: "{:.1%} to {:.1%}".format(
            *wilson_interval(round(r["success_rate"] * EPISODES), EPISODES)
        ),
        "length": lambda r: f"{r['mean_length']:.1f}",
    }
    for heading in columns:
        table.add_column(heading, justify="right")
    for result in results:
        table.add_row(*(show(result) for show in columns.values()))
    console = Console(width=120)
    console.print(table)
    console.print(
        f"median: {median(r['seconds'] for r in results):.0f} s,"
        f" success {median(r['success_rate'] for r in results):.1%}"
    )
    for result in results:
        points = "  ".join(f"{s:.0f} s {rate:.0%}" for s, _, rate in result["curve"])
        console.print(f"seed {result['seed']}: {points}", highlight=False)


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} s"
