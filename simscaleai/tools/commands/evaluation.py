"""Policies in closed loop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simscaleai.errors import UnsavedResults
from simscaleai.tools.app import RandomizeCommand, app, examples
from simscaleai.tools.commands.options import Randomize

# how the table puts the names of `evaluation.following.measure_following`
FOLLOWING = {
    "approached_right": "right object approached first",
    "approached_wrong": "a wrong object approached first",
    "approached_none": "no object approached",
    "strict": "scenes with the right object approached for every instruction",
    "strict_success": "scenes with a success for every instruction",
}


@app.command(
    "eval",
    cls=RandomizeCommand,
    epilog=examples(
        "simscale eval checkpoints/final.pt",
        "simscale eval checkpoints/final.pt --n-episodes 1000 --seed 7",
        "simscale eval checkpoints/final.pt --randomize heavy --output runs/heavy",
        "simscale eval checkpoints/final.pt --phrasings held_out",
        "simscale eval checkpoints/final.pt --phrasings held_out --every-instruction",
    ),
)
def evaluate(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="Checkpoint, or the folder or name of a run."),
    ],
    env_name: Annotated[
        str | None,
        typer.Option(help="Environment; default: that of the checkpoint."),
    ] = None,
    n_episodes: Annotated[int, typer.Option(min=1, help="Number of episodes.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the episodes.")] = 0,
    num_envs: Annotated[
        int | None, typer.Option(min=1, help="Number of parallel environments.")
    ] = None,
    randomize: Randomize = None,
    phrasings: Annotated[
        str,
        typer.Option(
            help="Phrasings of instructions: train, or held_out, which no dataset contains."
        ),
    ] = "train",
    every_instruction: Annotated[
        bool,
        typer.Option(
            "--every-instruction",
            help="Run each of the N episodes once for every instruction of the task, and count how often all"
            " were followed.",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the results; default: that of the checkpoint."
        ),
    ] = None,
) -> None:
    """Measure the success rate of a policy in closed loop."""
    from simscaleai.evaluation import evaluate_checkpoint
    from simscaleai.tools.console import results, table, text

    unsaved: UnsavedResults | None = None
    try:
        result = evaluate_checkpoint(
            checkpoint,
            n_episodes=n_episodes,
            seed=seed,
            env_name=env_name,
            num_envs=num_envs,
            randomize=randomize,
            phrasings=phrasings,
            output_dir=output,
            every_instruction=every_instruction,
        )
    except UnsavedResults as error:
        unsaved, result = error, {**error.results, "output_path": None}
    categories, following = result.pop("categories", {}), result.pop("following", {})
    results("Evaluation", result)
    if categories:
        keys = ("n_episodes", "success_rate", "success_ci", "failure_stages")
        columns = ("episodes of", *(key.replace("_", " ") for key in keys))
        rows = [(name, *(text(k, found[k]) for k in keys)) for name, found in categories.items()]
        table("By kind of episode", columns, rows)
    if following:
        rows = [
            (
                FOLLOWING[name],
                f"{found['count']} of {found['n']}",
                text("_rate", found["rate"]),
                text("_ci", found["ci"]),
            )
            for name, found in following.items()
        ]
        table("Following the instruction", ("what", "count", "rate", "95 % interval"), rows)
    if unsaved is not None:
        raise unsaved
