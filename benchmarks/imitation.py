"""Imitation from states: each recipe's training, and its success in unseen episodes.

    python benchmarks/imitation.py [RECIPE ...] [--seeds 1] [--threads 2]

A recipe is a file of configs/train; the demonstrations are made by the command in its first lines, with the
seed of the run. Episodes of the evaluation start where no demonstration and no other evaluation does.
The recipes of reach_around, where the expert goes left or right by chance, also say how often which way
was taken: the post is passed on the left, on the right, or not at all.
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from simscaleai.datagen import generate_dataset
from simscaleai.rl.evaluator import evaluate_checkpoint
from simscaleai.tools.train import train_run
from simscaleai.training.settings import load_run

ROOT = Path(__file__).resolve().parent.parent
RECIPES = {  # task, demonstrations of each, and the noise on their actions
    "bc_200": ("pick_place", 200, 0.1),
    "act_200": ("pick_place", 200, 0.1),
    "diffusion_200": ("pick_place", 200, 0.1),
    "flow_200": ("pick_place", 200, 0.1),
    "few_25": ("pick_place", 25, 0.2),
    "around_bc": ("reach_around", 200, 0.1),
    "around_diffusion": ("reach_around", 200, 0.1),
    "around_flow": ("reach_around", 200, 0.1),
}
EPISODES = 100
SUITE = 2000  # no seed of a recipe's own evaluations


def demonstrations(task: str, count: int, noise: float, seed: int, folder: Path) -> Path:
    """The dataset, made once."""
    path = folder / f"{task}_{count}_{noise}_{seed}.h5"
    if not path.exists():
        generate_dataset(
            task,
            count,
            str(path),
            "scripted",
            domain_randomization=False,
            seed=42 + seed,
            noise=noise,
            only_success=True,
            show_progress=False,
        )
    return path


def run(recipe: str, seed: int, folder: Path) -> tuple[str, ...]:
    """One line of the table."""
    data = demonstrations(*RECIPES[recipe], seed, folder)
    settings = load_run(
        ROOT / "configs/train" / f"{recipe}.yaml",
        flags={"data.path": str(data), "seed": seed, "trainer.show_progress": False},
    )
    settings = replace(settings, name=f"imitation/{recipe}_{seed}")
    start, busy = time.perf_counter(), time.process_time()
    train_run(settings)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    found = evaluate_checkpoint(
        settings.train_config().checkpoint_folder / "final.pt",
        n_episodes=EPISODES,
        seed=SUITE + seed,
        device="cpu",
        show_progress=False,
    )
    low, high = found["success_ci"]
    failures = ", ".join(f"{k} {v}" for k, v in found["failure_stages"].items())
    return (
        recipe,
        str(seed),
        str(RECIPES[recipe][1]),
        f"{settings.train_config().max_steps:,}",
        f"{seconds:.0f}",
        f"{busy:.0f}",
        f"{100 * found['success_rate']:.0f}",
        f"{100 * low:.1f} to {100 * high:.1f}",
        f"{found['mean_length']:.1f}",
        failures or "none",
        ", ".join(f"{k} {v['n_episodes']}" for k, v in found.get("groups", {}).items()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=", ".join(RECIPES))
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    table = Table(
        title=f"{platform.machine()}, {args.threads} threads, PyTorch {torch.__version__}"
    )
    for column in ("recipe", "seed", "demonstrations", "steps", "training (s)", "CPU (s)"):
        table.add_column(column)
    for column in (f"success in {EPISODES} (%)", "95 % interval", "mean steps", "failures", "ways"):
        table.add_column(column)
    console = Console(width=160)
    for recipe in args.recipes or RECIPES:
        for seed in range(args.seeds):
            line = run(recipe, seed, args.output)
            console.print(" | ".join(line), highlight=False)
            table.add_row(*line)
    console.print(table)


if __name__ == "__main__":
    main()
