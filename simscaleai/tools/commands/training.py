"""Training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simscaleai.tools.app import app, examples


@app.command(
    epilog=examples(
        "simscale train --dataset data/reach.h5 --max-steps 1000",
        "simscale train --dataset data/reach.h5 --batch-size 256 --lr 1e-3 --checkpoint-dir runs/a",
        "simscale train --config configs/train/bc_state.yaml model_kwargs.hidden_dim=512 seed=1",
        "simscale train --dataset data/reach.h5 --resume checkpoints/step_5000.pt",
    ),
)
def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Any field of TrainConfig."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of TrainConfig fields.")] = None,
    model: Annotated[str | None, typer.Option(help="Model; see `simscale list-models`.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="HDF5 file of episodes.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Samples in a step.")] = None,
    lr: Annotated[float | None, typer.Option(min=0, help="Peak learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Weights and data order.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    checkpoint_dir: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Checkpoint to go on from.")] = None,
) -> None:
    """Train a model on a dataset.

    Settings come from the defaults, then --config, then KEY=VALUE words, then the flags.
    """
    from simscaleai.config import load_config
    from simscaleai.tools.console import results
    from simscaleai.training import TrainConfig, train_policy

    flags = {
        "model_name": model,
        "dataset_path": dataset,
        "max_steps": max_steps,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "device": device,
        "checkpoint_dir": checkpoint_dir,
        "resume_from": resume,
    }
    given = {
        key: str(value) if isinstance(value, Path) else value
        for key, value in flags.items()
        if value is not None
    }
    settings = load_config(TrainConfig, config, overrides or (), **given)
    results("Training", train_policy(settings))
