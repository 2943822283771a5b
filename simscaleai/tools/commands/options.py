"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from simscaleai.json_types import JsonDict
from simscaleai.tools.app import RANDOMIZE

# The help texts stand here once, so that every command describes an option in the same words.
Env = Annotated[str, typer.Option("--env-name", help="Environment; see `simscale list-envs`.")]
RobotName = Annotated[
    str | None,
    typer.Option(
        "--robot",
        help="Robot: panda, ur5e, or one of your own; default: that of the checkpoint, or panda.",
    ),
]
Dataset = Annotated[
    Path,
    typer.Argument(metavar="DATASET", help="HDF5 file of episodes, or folder of shards."),
]
Cameras = Annotated[
    str,
    typer.Option(metavar="NAMES", help="Cameras to render, such as wrist_cam,front_cam."),
]
ImageSize = Annotated[int, typer.Option(min=1, help="Height and width of images in pixels.")]
Depth = Annotated[bool, typer.Option("--depth", help="Also record depth (m).")]
Segmentation = Annotated[
    bool, typer.Option("--segmentation", help="Also record segmentation (geom ids).")
]
Randomize = Annotated[
    str | None,
    typer.Option(
        RANDOMIZE,
        metavar="[LEVEL]",
        help="Domain randomization: light, default or heavy; `default` if no level is given.",
    ),
]


def names(text: str) -> list[str]:
    """Return the parts of a list such as "wrist_cam,front_cam"."""
    return [part.strip() for part in text.split(",") if part.strip()]


def given(flags: Mapping[str, object]) -> JsonDict:
    """Return the flags that were given, as plain values; the others keep their settings."""
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in flags.items()
        if value is not None
    }
