"""Training, one run or many."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from simscaleai.tools.app import app, examples
from simscaleai.tools.commands.options import Config, given

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Any setting, such as optimizer.lr=3e-4."),
]
# Defaults are those of `RunConfig`, which imports PyTorch and would make --help slow; a test compares them.
Model = Annotated[
    str | None, typer.Option(help="Model; see `simscale list-models`.", show_default="bc")
]
Dataset = Annotated[
    Path | None,
    typer.Option(help="HDF5 file of episodes, folder of shards, or LeRobot dataset."),
]
MaxSteps = Annotated[
    int | None, typer.Option(min=1, help="Optimizer steps.", show_default="100000")
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Samples per optimizer step.", show_default="32")
]
LearningRate = Annotated[
    float | None, typer.Option(min=0, help="Peak learning rate.", show_default="0.0001")
]
Device = Annotated[
    str | None, typer.Option(help="Device: auto, cpu, cuda or mps.", show_default="auto")
]
EvalEpisodes = Annotated[
    int | None,
    typer.Option(min=0, help="Closed-loop episodes of each evaluation.", show_default="0"),
]
UseWandb = Annotated[bool, typer.Option("--use-wandb", help="Log to Weights & Biases.")]


@app.command(
    epilog=examples(
        "simscale train --dataset data/reach.h5 --max-steps 1000",
        "simscale train --config bc_state --dataset data/pick_place.h5 --name a",
        "simscale train --config bc_state optimizer.lr=3e-4 model.hidden_dim=512",
        "simscale train --config runs/a/config.yaml --resume auto",
        "torchrun --nproc-per-node 2 --no-python simscale train --dataset data/reach.h5",
    ),
)
def train(
    overrides: Overrides = None,
    config: Config = None,
    name: Annotated[
        str | None, typer.Option(help="Write to runs/NAME; without it, to checkpoints.")
    ] = None,
    model: Model = None,
    dataset: Dataset = None,
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of weights and data order.", show_default="0")
    ] = None,
    device: Device = None,
    checkpoint_dir: Annotated[
        Path | None, typer.Option(help="Folder of checkpoints.", show_default="checkpoints")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|auto", help="Checkpoint or run to resume from; auto: the newest."
        ),
    ] = None,
    eval_env_episodes: EvalEpisodes = None,
    use_wandb: UseWandb = False,
    dummy: Annotated[
        bool, typer.Option("--dummy", help="Train on random numbers, to try a model out.")
    ] = False,
) -> None:
    """Train a model on a dataset.

    Settings come from the defaults, then --config, then KEY=VALUE arguments, then the flags.

    `simscale config train` lists every KEY with its default and meaning.
    """
    from simscaleai.distributed import Processes
    from simscaleai.recipes import find_config
    from simscaleai.storage.find_checkpoint import RUNS
    from simscaleai.tools.console import finish, results
    from simscaleai.tools.train import check_data, train_run
    from simscaleai.training.run_config import load_run

    start = time.perf_counter()

    # dotted names of `RunConfig`
    flags = given(
        {
            "name": name,
            "model.name": model,
            "data.path": dataset,
            "trainer.max_steps": max_steps,
            "trainer.batch_size": batch_size,
            "optimizer.lr": lr,
            "seed": seed,
            "hardware.device": device,
            "checkpoints.folder": checkpoint_dir,
            "checkpoints.resume_from": resume,
            "eval.env_episodes": eval_env_episodes,
            "log.use_wandb": use_wandb or None,  # without the flag, the file decides
        }
    )
    run = load_run(config and find_config(config, "train"), overrides or (), flags)
    words = {word.partition("=")[0] for word in overrides or ()}
    # A number of steps given by hand shows that a trial on random numbers is wanted.
    check_data(
        run,
        dummy,
        trial=max_steps is not None or "trainer.max_steps" in words or resume is not None,
    )
    metrics = train_run(run)
    if Processes.from_environment().is_main:  # under torchrun, one table is enough
        results("Training", metrics)
        folder = RUNS / run.name if run.name else run.checkpoints.folder
        following = [shlex.join(["simscale", "eval", str(folder)])] if run.data.path else []
        finish(time.perf_counter() - start, *following)


@app.command(
    epilog=examples(
        "simscale sweep --dataset data/reach.h5 model.hidden_dim=128,512 seed=0,1,2",
        "simscale sweep --config bc_state 'optimizer.lr=choice(1e-4,1e-3)'",
        "simscale sweep --dataset data/reach.h5 seed=0,1,2,3 --launcher joblib hydra.launcher.n_jobs=2",
    ),
)
def sweep(
    overrides: Overrides = None,
    config: Config = None,
    name: Annotated[
        str | None,
        typer.Option(help="Write to runs/NAME; without it, the name is that of --config."),
    ] = None,
    launcher: Annotated[
        str, typer.Option(help="Hydra launcher: basic, joblib, submitit, ray.")
    ] = "basic",
    model: Model = None,
    dataset: Dataset = None,
    max_steps: MaxSteps = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    device: Device = None,
    eval_env_episodes: EvalEpisodes = None,
    use_wandb: UseWandb = False,
) -> None:
    """Train once for every combination of the given values, and compare.

    Several values are separated by commas; choice(...) and range(...) work as in Hydra. Run the same
    command again to resume: finished runs are kept, failed and interrupted ones are run.

    `simscale config train` lists every KEY with its default and meaning.
    """
    from simscaleai.recipes import find_config
    from simscaleai.tools.sweep import run_sweep

    # dotted names of `RunConfig`
    flags = given(
        {
            "model.name": model,
            "data.path": dataset,
            "trainer.max_steps": max_steps,
            "trainer.batch_size": batch_size,
            "optimizer.lr": lr,
            "hardware.device": device,
            "eval.env_episodes": eval_env_episodes,
            "log.use_wandb": use_wandb or None,  # without the flag, the file decides
        }
    )
    path = config and find_config(config, "train")
    failed = run_sweep(overrides or (), path, flags, name, launcher)
    if failed:  # each failed job has printed its error
        raise typer.Exit(1)
