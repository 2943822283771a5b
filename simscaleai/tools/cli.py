"""The `simscale` command. Commands only parse arguments, call the package and print results.

Each command imports slow libraries itself, so that `simscale --help` answers at once.
"""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from simscaleai import plugins
from simscaleai.tools.app import IMPORT, app

# isort: off
# in the order of --help; a module registers its commands when it is imported
import simscaleai.tools.commands.demo_command
import simscaleai.tools.commands.new
import simscaleai.tools.commands.inspection
import simscaleai.tools.commands.config_command
import simscaleai.tools.commands.data
import simscaleai.tools.commands.data_group
import simscaleai.tools.commands.exchange_commands
import simscaleai.tools.commands.bench_loader
import simscaleai.tools.commands.train_commands
import simscaleai.tools.commands.dagger_command
import simscaleai.tools.commands.reinforcement
import simscaleai.tools.commands.eval_commands
import simscaleai.tools.commands.compare_commands
import simscaleai.tools.commands.figures
import simscaleai.tools.commands.live
import simscaleai.tools.commands.serve_command


def _version(wanted: bool) -> None:
    if wanted:
        from simscaleai import __version__

        typer.echo(f"simscale {__version__}")
        raise typer.Exit


def _request(names: list[str] | None) -> None:
    plugins.request(names or [])


@app.callback()
def root(
    imports: Annotated[
        list[str] | None,
        typer.Option(
            IMPORT,
            metavar="MODULE|FILE",
            callback=_request,
            expose_value=False,
            help="Module or Python file with tasks, robots or models of your own; may be repeated.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(args: list[str] | None = None) -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # redirected on Windows, output has the system's encoding, which lacks most characters
            stream.reconfigure(errors="backslashreplace")
    app(args=args, prog_name="simscale")


if __name__ == "__main__":
    main()
