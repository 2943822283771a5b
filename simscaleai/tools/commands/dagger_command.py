"""DAgger: rounds in which the policy drives and the expert labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simscaleai.tools.app import RandomizeCommand, app, echo, examples
from simscaleai.tools.commands.data import Overwrite, Resume, SwitchInstructions
from simscaleai.tools.commands.options import (
    CameraPoses,
    EnvSettings,
    Randomize,
    env_settings,
)
from simscaleai.tools.commands.train_commands import Overrides


@app.command(
    cls=RandomizeCommand,
    epilog=examples(
        "simscale dagger runs/a --output data/dagger.h5",
        "simscale dagger runs/a --rounds 2 --episodes 100 --output data/dagger.h5 trainer.max_steps=2000",
        "simscale dagger runs/vla --switch-instructions --output data/dagger.h5 --resume",
    ),
)
def dagger(
    checkpoint: Annotated[
        str,
        typer.Argument(metavar="CHECKPOINT", help="Checkpoint, or the folder or name of a run."),
    ],
    overrides: Overrides = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="HDF5 file of all episodes; OUTPUT.rounds gets rounds and policies.",
        ),
    ] = Path("data/dagger.h5"),
    dataset: Annotated[
        Path | None,
        typer.Option(help="First demonstrations; default: those that the checkpoint learned from."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times to drive and to train.")] = 3,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each round.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the episodes.")] = 42,
    max_steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Truncate an episode after this many steps; default: as the data."
        ),
    ] = None,
    noise: Annotated[
        float, typer.Option(min=0, help="Standard deviation of noise on executed actions.")
    ] = 0.0,
    env: EnvSettings = None,
    camera_pose: CameraPoses = None,
    randomize: Randomize = None,
    switch_instructions: SwitchInstructions = False,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes that drive.")] = 1,
    num_envs: Annotated[
        int, typer.Option(min=1, help="Environments that each process steps at once.")
    ] = 256,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Improve a policy: it drives, the expert labels the states, and it is trained again on all data.

    KEY=VALUE arguments change settings of the training, which are those of the checkpoint.
    """
    from simscaleai.datagen import dagger as run_dagger
    from simscaleai.errors import UserError
    from simscaleai.tools.console import table, text
    from simscaleai.tools.retrain import Retraining

    training = Retraining.of(checkpoint, overrides or ())
    if dataset is None and not training.dataset:
        raise UserError(f"{checkpoint} was trained on no dataset; name one with --dataset.")
    result = run_dagger(
        checkpoint,
        dataset or training.dataset,
        output,
        training,
        rounds=rounds,
        episodes=episodes,
        seed=seed,
        max_steps=max_steps,
        noise=noise,
        randomize=randomize,
        switch_instructions=switch_instructions,
        workers=workers,
        num_envs=num_envs,
        env_kwargs=env_settings(env, camera_pose),
        training=training.deciding,
        resume=resume,
        overwrite=overwrite,
        announce=lambda sentence: echo(sentence, err=True),
    )
    columns = ("round", "who drove", "episodes", "steps", "success of who drove")
    keys = ("round", "policy", "episodes", "steps", "success_rate")
    table("DAgger", columns, [tuple(text(k, r[k]) for k in keys) for r in result["rounds"]])
    total = f"{result['total_episodes']} episodes, {result['total_steps']} steps"
    echo(f"Dataset: {result['output_path']} ({total})")
    echo(f"Next: simscale eval {result['policy']}")
