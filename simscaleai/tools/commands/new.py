"""Packages of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simscaleai.tools.app import app, echo, examples


@app.command(
    epilog=examples(
        "simscale new task push_puck",
        "simscale new robot my_arm --output packages",
        "simscale new model my_model",
    ),
)
def new(
    kind: Annotated[str, typer.Argument(metavar="task|robot|model", help="What to begin with.")],
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Name of the package and of the task, robot or model."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder in which the package's folder is made.")
    ] = Path("."),
) -> None:
    """Write a package with a task, a robot or a model of your own, which works and has a test."""
    from simscaleai.tools.scaffold import write_package

    commands = write_package(kind, name, output)
    echo(f"Wrote {output / name}/. Next:\n")
    echo("\n".join([f"  cd {output / name}", *(f"  {command}" for command in commands)]))
