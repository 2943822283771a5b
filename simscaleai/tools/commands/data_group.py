"""`simscale data`: change datasets that exist."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simscaleai.tools.app import app, examples
from simscaleai.tools.commands.data import Overwrite, check

data = typer.Typer(name="data", help="Change datasets that exist.", no_args_is_help=True)
app.add_typer(data)


@data.command(
    epilog=examples("simscale data relabel data/old.h5 --output data/labeled.h5"),
)
def relabel(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="HDF5 file of episodes.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="HDF5 file to write.")],
    overwrite: Overwrite = False,
) -> None:
    """Add the expert's action for every instruction to a dataset.

    `datagen` records these labels itself. Training with data.relabel learns from them.
    """
    from simscaleai.datagen import relabel_dataset
    from simscaleai.tools.console import results

    results("Relabeled", relabel_dataset(dataset, output, overwrite=overwrite))
    check(output)
