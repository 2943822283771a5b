"""Imitation: each recipe's training, and its success in unseen episodes.

    python benchmarks/imitation.py [RECIPE ...] [--seeds 1] [--threads 2]

A recipe is a file in configs/train; the command in its first lines generates the demonstrations, with the
seed of the run. No demonstration and no other evaluation has the seeds of the evaluated episodes. Models
that read instructions get phrasings that no demonstration contains. For tasks with categories of
episodes, the last column shows the successes of each: the named color, or, in reach_around, the side on
which the post was passed.
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from simscaleai.datagen import generate_dataset
from simscaleai.evaluation import evaluate_checkpoint
from simscaleai.tools.train import train_run
from simscaleai.training.run_config import load_run

ROOT = Path(__file__).resolve().parent.parent


class Demonstrations(NamedTuple):
    """Demonstrations of the expert: `noise` is the standard deviation of noise on executed actions."""

    task: str
    count: int
    noise: float
    cameras: tuple[str, ...] = ()
    robot: str = "panda"


TWO_CAMERAS = ("wrist_cam", "front_cam")
THREE_CAMERAS = (*TWO_CAMERAS, "overhead_cam")
RECIPES = {
    "bc_200": Demonstrations("pick_place", 200, 0.1),
    "act_200": Demonstrations("pick_place", 200, 0.1),
    "diffusion_200": Demonstrations("pick_place", 200, 0.1),
    "flow_200": Demonstrations("pick_place", 200, 0.1),
    "few_25": Demonstrations("pick_place", 25, 0.2),
    "bc_ur5e": Demonstrations("pick_place", 200, 0.1, robot="ur5e"),
    "around_bc": Demonstrations("reach_around", 200, 0.1),
    "around_diffusion": Demonstrations("reach_around", 200, 0.1),
    "around_flow": Demonstrations("reach_around", 200, 0.1),
    "bc_image_200": Demonstrations("pick_place", 200, 0.1, THREE_CAMERAS),
    "bc_image_500": Demonstrations("pick_place", 500, 0.1, THREE_CAMERAS),
    "vla_reach_color": Demonstrations("reach_color", 1000, 0.1, ("wrist_cam",)),
    "vla_pick_place_color": Demonstrations("pick_place_color", 600, 0.1, TWO_CAMERAS),
    "vla_sort": Demonstrations("sort", 1000, 0.1, TWO_CAMERAS),
}
EPISODES = 100
SUITE = 2000  # no seed of a recipe's own evaluations


def recorded(wanted: Demonstrations, seed: int, folder: Path) -> Path:
    """The dataset, made once."""
    task, count, noise, cameras, robot = wanted
    name = "_".join([task, str(count), str(noise), str(seed), *cameras, robot])
    path = folder / f"{name}.h5"
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
            cameras=cameras,
            robot=robot,
            show_progress=False,
        )
    return path


def run(recipe: str, seed: int, folder: Path) -> tuple[str, ...]:
    """One line of the table."""
    data = recorded(RECIPES[recipe], seed, folder)
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
        phrasings="held_out" if recipe.startswith("vla") else "train",
        show_progress=False,
    )
    low, high = found["success_ci"]
    failures = ", ".join(f"{k} {v}" for k, v in found["failure_stages"].items())
    return (
        recipe,
        str(seed),
        str(RECIPES[recipe].count),
        f"{settings.train_config().max_steps:,}",
        f"{seconds:.0f}",
        f"{busy:.0f}",
        f"{100 * found['success_rate']:.0f}",
        f"{100 * low:.1f} to {100 * high:.1f}",
        f"{found['mean_length']:.1f}",
        failures or "none",
        ", ".join(
            f"{k} {round(v['success_rate'] * v['n_episodes'])} of {v['n_episodes']}"
            for k, v in found.get("categories", {}).items()
        ),
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
    for column in (
        f"success in {EPISODES} (%)",
        "95 % interval",
        "mean steps",
        "failures",
        "kinds",
    ):
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
