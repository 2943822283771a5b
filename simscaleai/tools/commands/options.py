"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from simscaleai.tools.app import RANDOMIZE

Env = Annotated[str, typer.Option("--env-name", help="Environment; see `simscale list-envs`.")]
RobotName = Annotated[
    str | None,
    typer.Option("--robot", help="Robot: panda (the default), ur5e, or one of your own."),
]
Cameras = Annotated[
    str,
    typer.Option(metavar="NAMES", help="Cameras to record, such as wrist_cam,front_cam."),
]
ImageSize = Annotated[int, typer.Option(min=1, help="Pixels per side.")]
Depth = Annotated[bool, typer.Option("--depth", help="Also depth, in m.")]
Segmentation = Annotated[bool, typer.Option("--segmentation", help="Also geom ids.")]
Randomize = Annotated[
    str | None,
    typer.Option(
        RANDOMIZE,
        metavar="[LEVEL]",
        help="Domain randomization: light, default or heavy; `default` if no level is named.",
    ),
]


def names(text: str) -> list[str]:
    """The parts of a list such as "wrist_cam,front_cam"."""
    return [part.strip() for part in text.split(",") if part.strip()]
