"""The settings of a command."""

from __future__ import annotations

from typing import Annotated

import typer

from simscaleai.tools.app import app, echo, examples
from simscaleai.tools.commands.options import Config


@app.command(
    epilog=examples(
        "simscale config train",
        "simscale config train --config bc_200 model.name=act",
        "simscale config rl agent.name=cem",
        "simscale config env",
        "simscale config train --yaml > my.yaml",
    ),
)
def config(
    kind: Annotated[str, typer.Argument(metavar="train|rl|env", help="Whose settings.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Change settings before they are shown."),
    ] = None,
    config: Config = None,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print them as a file for --config.")
    ] = False,
) -> None:
    """Show every setting of training, reinforcement learning or the environment, with value and meaning.

    The settings are those with which the command would run: `train` and `rl` take them as KEY=VALUE, and
    other commands take those of the environment with --env KEY=VALUE.
    """
    from simscaleai.tools.settings_table import find_settings, list_settings

    found = find_settings(kind, None if config is None else str(config), overrides or [])
    if as_yaml:
        from simscaleai.config import to_yaml

        echo(to_yaml(found).rstrip())
        return
    from simscaleai.tools.console import table

    table(f"Settings of {kind}", ["setting", "value", "meaning"], list_settings(found))
