"""pick_place from a policy cloned from 20 demonstrations, then PPO: `configs/rl/pick_place_finetune.yaml`.

    python benchmarks/rl_finetune.py [--seeds 3]

For each seed: 20 demonstrations of the scripted expert, behavior cloning on them by
configs/train/few_25.yaml, and PPO whose actor starts from the clone. Seconds of the table are those of PPO,
the fit to the clone included; the time that the clone took is printed beside it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch
from _rl import EPISODES, ROOT, SUITE, arguments, report, run, seeds
from rich.console import Console

from simscaleai.datagen import generate_dataset
from simscaleai.evaluation import evaluate_checkpoint
from simscaleai.tools.train import train_run
from simscaleai.training.run_config import load_run

DEMONSTRATIONS, RECIPE = 20, "few_25.yaml"


def clone(seed: int, folder: Path) -> tuple[Path, float, float]:
    """The checkpoint, its success, and the seconds that demonstrations and training took."""
    start = time.perf_counter()
    data = folder / "demonstrations.h5"
    generate_dataset(
        "pick_place",
        DEMONSTRATIONS,
        str(data),
        "scripted",
        domain_randomization=False,
        seed=seed,
        noise=0.2,
        only_success=True,
        overwrite=True,
    )
    settings = load_run(
        ROOT / "configs/train" / RECIPE,
        flags={"data.path": str(data), "seed": seed, "trainer.show_progress": False},
    )
    settings = replace(settings, name=f"bench_finetune_clone_{seed}")
    train_run(settings)
    seconds = time.perf_counter() - start
    path = settings.train_config().checkpoint_folder / "final.pt"
    found = evaluate_checkpoint(
        path, n_episodes=EPISODES, seed=SUITE, output_dir=folder / "clone", show_progress=False
    )
    return path, found["success_rate"], seconds


def main() -> None:
    args = arguments(__doc__ or "").parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    results = []
    for seed in seeds(args):
        path, success, seconds = clone(seed, args.output / f"finetune_{seed}")
        Console().print(f"seed {seed}: the clone succeeds in {success:.1%}, after {seconds:.0f} s")
        results.append(
            run(
                "pick_place_finetune.yaml",
                "bench_finetune",
                seed,
                args,
                init_from=str(path),
            )
        )
    report("PPO on pick_place, from a clone of 20 demonstrations", results, 0.95)


if __name__ == "__main__":
    main()
