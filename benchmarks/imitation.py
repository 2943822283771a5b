"""Imitation: each recipe's training, and its success in unseen episodes.

    python benchmarks/imitation.py [RECIPE ...] [--seeds 1] [--threads 2] [--data-seed 42]

A recipe is a file in configs/train; the command in its first lines generates the demonstrations, with the
seed of the run, or all with --data-seed. No demonstration and no other evaluation has the seeds of the
evaluated episodes. Models that read instructions get phrasings that no demonstration contains, and every
scene is run once for every instruction: the table shows how often the right object was approached first, and
in how many scenes for all instructions (strict). For tasks with categories of episodes, the last column shows
the successes of each: the named color, or, in reach_around, the side on which the post was passed.
RECIPE:no_relabel is the control, the same training without counterfactual instructions.
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
from simscaleai.evaluation.following import Fraction
from simscaleai.storage.episodes import open_dataset
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
    "flow_one_step_200": Demonstrations("pick_place", 200, 0.1),
    "few_25": Demonstrations("pick_place", 25, 0.2),
    "bc_ur5e": Demonstrations("pick_place", 200, 0.1, robot="ur5e"),
    "around_bc": Demonstrations("reach_around", 200, 0.1),
    "around_diffusion": Demonstrations("reach_around", 200, 0.1),
    "around_flow": Demonstrations("reach_around", 200, 0.1),
    "bc_image_200": Demonstrations("pick_place", 200, 0.1, THREE_CAMERAS),
    "bc_image_500": Demonstrations("pick_place", 500, 0.1, THREE_CAMERAS),
    "vla_reach_color": Demonstrations("reach_color", 1000, 0.1, ("wrist_cam",)),
    "vla_pick_place_color": Demonstrations("pick_place_color", 1600, 0.1, TWO_CAMERAS),
    "vla_sort": Demonstrations("sort", 1000, 0.1, TWO_CAMERAS),
}
CONTROL = "no_relabel"
EPISODES = 100
ASKED_EPISODES = 600  # for models of language: scenes times instructions
FOLLOWING = ("approached_right", "strict")
SUITE = 2000  # no seed of a recipe's own evaluations


def recorded(wanted: Demonstrations, seed: int, folder: Path) -> Path:
    """Return the dataset of a master seed, made once."""
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
            seed=seed,
            noise=noise,
            only_success=True,
            cameras=cameras,
            robot=robot,
            show_progress=False,
        )
    return path


def run(named: str, seed: int, folder: Path, data_seed: int | None) -> tuple[str, ...]:
    """Train and evaluate; return one line of the table."""
    recipe, _, variant = named.partition(":")
    data = recorded(RECIPES[recipe], 42 + seed if data_seed is None else data_seed, folder)
    flags = {"data.path": str(data), "seed": seed, "trainer.show_progress": False}
    if variant == CONTROL:
        flags["data.relabel"] = 0.0
    settings = load_run(ROOT / "configs/train" / f"{recipe}.yaml", flags=flags)
    settings = replace(settings, name=f"imitation/{named.replace(':', '_')}_{seed}")
    start, busy = time.perf_counter(), time.process_time()
    train_run(settings)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    asks = recipe.startswith("vla")
    found = evaluate_checkpoint(
        settings.train_config().checkpoint_folder / "final.pt",
        n_episodes=_scenes(data) if asks else EPISODES,
        seed=SUITE + seed,
        device="cpu",
        phrasings="held_out" if asks else "train",
        show_progress=False,
        every_instruction=asks,
    )
    low, high = found["success_ci"]
    failures = ", ".join(f"{k} {v}" for k, v in found["failure_stages"].items())
    following = found.get("following", {})
    return (
        named,
        str(seed),
        str(RECIPES[recipe].count),
        f"{settings.train_config().max_steps:,}",
        f"{seconds:.0f}",
        f"{busy:.0f}",
        str(found["n_episodes"]),
        f"{100 * found['success_rate']:.1f}",
        f"{100 * low:.1f} to {100 * high:.1f}",
        *(_fraction(following.get(name)) for name in FOLLOWING),
        f"{found['mean_length']:.1f}",
        failures or "none",
        ", ".join(
            f"{k} {round(v['success_rate'] * v['n_episodes'])} of {v['n_episodes']}"
            for k, v in found.get("categories", {}).items()
        ),
    )


def _scenes(data: Path) -> int:
    """Return in how many scenes a policy is asked for everything that a dataset lists."""
    with open_dataset(data) as file:
        assert file.contract is not None
        return ASKED_EPISODES // len(file.contract.instructions)


def _fraction(counted: Fraction | None) -> str:
    """Return "597 of 600 (98.5 to 99.8 %)"; "" for an evaluation that does not have it."""
    if counted is None:
        return ""
    low, high = (100 * bound for bound in counted["ci"])
    return f"{counted['count']} of {counted['n']} ({low:.1f} to {high:.1f} %)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=", ".join(RECIPES))
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--data-seed", type=int, help="of all datasets; by default 42 + seed")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    table = Table(
        title=f"{platform.machine()}, {args.threads} threads, PyTorch {torch.__version__}"
    )
    for column in ("recipe", "seed", "demonstrations", "steps", "training (s)", "CPU (s)"):
        table.add_column(column)
    for column in (
        *("episodes", "success (%)", "95 % interval", *FOLLOWING),
        *("mean steps", "failures", "kinds"),
    ):
        table.add_column(column)
    console = Console(width=160)
    for recipe in args.recipes or RECIPES:
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            line = run(recipe, seed, args.output, args.data_seed)
            console.print(" | ".join(line), highlight=False)
            table.add_row(*line)
    console.print(table)


if __name__ == "__main__":
    main()
