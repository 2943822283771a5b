"""Export to the formats of other projects, and import from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simscaleai.tools.app import app, examples
from simscaleai.tools.commands.data import Overwrite, check
from simscaleai.tools.commands.options import Dataset


@app.command(
    epilog=examples(
        "simscale export data/reach.h5 --format lerobot --output data/reach_lerobot",
        "simscale export data/images.h5 --format lerobot --video --output data/videos",
    ),
)
def export(
    dataset: Dataset,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    format: Annotated[str, typer.Option("--format", help="lerobot (version 3.0).")] = "lerobot",
    video: Annotated[
        bool, typer.Option("--video", help="Store images as H.264: smaller, but pixels change.")
    ] = False,
    subtasks: Annotated[
        bool,
        typer.Option(
            "--subtasks",
            help="Write the stages of the task as subtasks; for lerobot 0.6 and later.",
        ),
    ] = False,
    fps: Annotated[
        int | None,
        typer.Option(min=1, help="Frames per second, if the dataset does not record it."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a dataset in the format of another project."""
    from simscaleai.datagen import export_dataset
    from simscaleai.tools.console import results

    result = export_dataset(
        dataset,
        output,
        format,
        video=video,
        subtasks=subtasks,
        fps=fps,
        overwrite=overwrite,
    )
    results("Exported", result)


@app.command(
    "import", epilog=examples("simscale import data/reach_lerobot --output data/imported.h5")
)
def import_(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="LeRobot dataset of version 3.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="HDF5 file to write.")],
    overwrite: Overwrite = False,
) -> None:
    """Read a LeRobot dataset into a dataset of ours."""
    from simscaleai.datagen import import_dataset
    from simscaleai.tools.console import results

    results("Imported", import_dataset(folder, output, overwrite=overwrite))
    check(output)
