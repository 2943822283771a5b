"""Imitation: each recipe's training, and its success in unseen episodes.

    python benchmarks/imitation.py [RECIPE[:VARIANT ...] ...] [--seeds 1] [--threads 2] [--data-seed 42]

A recipe is a file in configs/train; the command in its first lines generates the demonstrations, with the
seed of the run, or all with --data-seed. No demonstration and no other evaluation has the seeds of the
evaluated episodes. On a GPU (--device cuda) training has single precision, as on a CPU. Models that read
instructions get phrasings that no demonstration contains, and every scene is run once for every instruction:
the table shows how often the right object was approached first, and in how many scenes for all instructions
(strict). For tasks with categories of episodes, the last column shows the successes of each: the named color,
or, in reach_around, the side on which the post was passed.
A variant changes a recipe in what its name says (`VARIANTS`), and several may follow one another:
RECIPE:no_relabel is the control, the same training without counterfactual instructions, and
RECIPE:no_relabel:no_auxiliary has no positions of the simulator either. RECIPE:dagger goes on from the
trained policy with --rounds of DAgger, `simscale dagger`, of --driven further episodes each; training times
are then those of all policies together, and `demonstrations` counts all episodes.
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from simscaleai.datagen import dagger, generate_dataset
from simscaleai.evaluation import evaluate_checkpoint
from simscaleai.evaluation.following import Fraction
from simscaleai.evaluation.summary import Metrics
from simscaleai.storage.episodes import open_dataset
from simscaleai.tools.retrain import Retraining
from simscaleai.tools.train import train_run
from simscaleai.training.run_config import RunConfig, load_run

ROOT = Path(__file__).resolve().parent.parent


class Demonstrations(NamedTuple):
    """Demonstrations of the expert, and how what has learned from them is evaluated.

    Attributes:
      noise: standard deviation of noise on executed actions.
      randomize: level of domain randomization, of the demonstrations and of the evaluated episodes.
      phrasings: of instructions in evaluated episodes, one line of the table for each.
    """

    task: str
    count: int
    noise: float
    cameras: tuple[str, ...] = ()
    robot: str = "panda"
    randomize: str | None = None
    phrasings: tuple[str, ...] = ("train",)


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
    "bc_image_50": Demonstrations("pick_place", 50, 0.2, THREE_CAMERAS),
    "bc_image_200": Demonstrations("pick_place", 200, 0.1, THREE_CAMERAS),
    "bc_image_500": Demonstrations("pick_place", 500, 0.1, THREE_CAMERAS),
    "act_image": Demonstrations("pick_place", 500, 0.1, THREE_CAMERAS),
    "flow_image": Demonstrations("pick_place", 500, 0.1, THREE_CAMERAS),
    "bc_image_randomized": Demonstrations(
        "pick_place", 1000, 0.1, THREE_CAMERAS, randomize="default"
    ),
    "vla_reach_color": Demonstrations(
        "reach_color", 1000, 0.1, TWO_CAMERAS, phrasings=("held_out",)
    ),
    "vla_pick_place_color": Demonstrations(
        "pick_place_color", 1600, 0.1, TWO_CAMERAS, phrasings=("held_out",)
    ),
    "vla_sort": Demonstrations(
        "sort", 1000, 0.1, TWO_CAMERAS, phrasings=("held_out", "new_combination")
    ),
}
DAGGER = "dagger"
VARIANTS: dict[str, dict[str, Any]] = {
    "no_relabel": {"data.relabel": 0.0},
    "half_relabel": {"data.relabel": 0.5},
    "no_auxiliary": {"model.auxiliary": None},
    "small": {"model.name": "vla:small", "model.auxiliary": None, "optimizer.lr": 5e-4},
    DAGGER: {},  # what follows the training
}
EPISODES = 100
ASKED_EPISODES = 600  # for models of language: scenes times instructions
FOLLOWING = ("approached_right", "strict")
SUITE = 2000  # no seed of a recipe's own evaluations


def chosen(named: str) -> tuple[Demonstrations, Path, dict[str, Any]]:
    """Return demonstrations, settings file and changed settings of RECIPE:VARIANT:..."""
    recipe, *variants = named.split(":")
    if recipe not in RECIPES or not set(variants) <= VARIANTS.keys():
        raise SystemExit(
            f"{named} is none of the recipes {', '.join(RECIPES)}, or one with variants other than"
            f" {', '.join(VARIANTS)}."
        )
    changes = {key: value for name in variants for key, value in VARIANTS[name].items()}
    return RECIPES[recipe], ROOT / "configs/train" / f"{recipe}.yaml", changes


def recorded(wanted: Demonstrations, seed: int, folder: Path, workers: int) -> Path:
    """Return the dataset of a master seed, made once."""
    task, count, noise, cameras, robot, randomize, _ = wanted
    name = "_".join([task, str(count), str(noise), str(seed), *cameras, robot, randomize or ""])
    path = folder / f"{name.rstrip('_')}.h5"
    if not path.exists():
        generate_dataset(
            task,
            count,
            str(path),
            "scripted",
            domain_randomization=False,
            seed=seed,
            randomize=randomize,
            noise=noise,
            only_success=True,
            workers=workers,
            cameras=cameras,
            robot=robot,
            show_progress=False,
        )
    return path


def improved(
    settings: RunConfig, seed: int, switch: bool, options: argparse.Namespace
) -> tuple[Path, int]:
    """Run DAgger from a trained policy; return the last policy, and the number of all episodes.

    With `switch`, the policy drives by other instructions than those that its episodes began with.
    """
    trained = settings.train_config().checkpoint_folder / "final.pt"
    output = options.output / f"{settings.name}.h5"
    found = dagger(
        trained,
        settings.data.path,
        output,
        Retraining.of(trained, ["log.show_progress=false"]),
        rounds=options.rounds,
        episodes=options.driven,
        seed=seed,
        switch_instructions=switch,
        overwrite=True,
        show_progress=False,
    )
    for line in found["rounds"]:
        print(f"round {line['round']}: success of the driver {100 * line['success_rate']:.1f} %")
    return Path(found["policy"]), found["total_episodes"]


def run(named: str, seed: int, data: Path, options: argparse.Namespace) -> list[tuple[str, ...]]:
    """Train on `data` and evaluate; return lines of the table, one for each kind of phrasings."""
    wanted, path, changes = chosen(named)
    flags = {
        "data.path": str(data),
        "seed": seed,
        "trainer.show_progress": False,
        "hardware.device": options.device,
        "hardware.use_amp": False,
        **changes,
    }
    settings = load_run(path, overrides=options.set, flags=flags)
    name = "_".join([named.replace(":", "_"), str(seed), *(word for word in [options.tag] if word)])
    settings = replace(settings, name=f"imitation/{name}")
    start, busy = time.perf_counter(), time.process_time()
    train_run(settings)
    policy: Path = settings.train_config().checkpoint_folder / "final.pt"
    count = wanted.count
    if DAGGER in named.split(":"):
        policy, count = improved(settings, seed, "held_out" in wanted.phrasings, options)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    lines = []
    for phrasings in wanted.phrasings:
        asks = phrasings == "held_out"
        found = evaluate_checkpoint(
            policy,
            n_episodes=_scenes(data) if asks else options.episodes,
            seed=SUITE + seed,
            device=options.device,
            randomize=wanted.randomize,
            phrasings=phrasings,
            show_progress=False,
            every_instruction=asks,
        )
        label = f"{named}, {phrasings}" if len(wanted.phrasings) > 1 else named
        training = (f"{settings.trainer.max_steps:,}", f"{seconds:.0f}", f"{busy:.0f}")
        lines.append((label, str(seed), str(count), *training, *_measured(found)))
    return lines


def _measured(found: Metrics) -> tuple[str, ...]:
    """Return the columns of an evaluation."""
    low, high = found["success_ci"]
    failures = ", ".join(f"{k} {v}" for k, v in found["failure_stages"].items())
    following = found.get("following", {})
    return (
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
    parser.add_argument(
        "recipes",
        nargs="*",
        metavar="RECIPE[:VARIANT]",
        help=f"{', '.join(RECIPES)}; variants: {', '.join(VARIANTS)}",
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--data-seed", type=int, help="of all datasets; by default 42 + seed")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--device", default="cpu", help="to train and act on: cpu, cuda, mps")
    parser.add_argument("--episodes", type=int, default=EPISODES, help="of an evaluation")
    parser.add_argument("--rounds", type=int, default=2, help="of RECIPE:dagger")
    parser.add_argument("--driven", type=int, default=200, help="episodes of such a round")
    parser.add_argument("--workers", type=int, default=1, help="processes that make a dataset")
    parser.add_argument("--only-data", action="store_true", help="make the datasets and stop")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="setting of all recipes"
    )
    parser.add_argument("--tag", default="", help="after the names of the runs' folders")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    table = Table(
        title=f"{platform.machine()}, {args.device}, {args.threads} threads, PyTorch {torch.__version__}"
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
            master = 42 + seed if args.data_seed is None else args.data_seed
            data = recorded(chosen(recipe)[0], master, args.output, args.workers)
            for line in [] if args.only_data else run(recipe, seed, data, args):
                console.print(" | ".join(line), highlight=False)
                table.add_row(*line)
    console.print(table)


if __name__ == "__main__":
    main()
