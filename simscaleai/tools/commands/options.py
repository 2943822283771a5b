"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from simscaleai.tools.app import RANDOMIZE

Env = Annotated[str, typer.Option("--env-name", help="Environment; see `simscale list-envs`.")]
Randomize = Annotated[
    str | None,
    typer.Option(
        RANDOMIZE,
        metavar="[LEVEL]",
        help="Domain randomization: light, default or heavy; `default` if no level is named.",
    ),
]
