"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from simscaleai.errors import UserError
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
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|RECIPE", help="YAML file of settings, or a recipe; see `simscale recipes`."
    ),
]
Dataset = Annotated[
    Path,
    typer.Argument(metavar="DATASET", help="HDF5 file of episodes, or folder of shards."),
]
Instruction = Annotated[
    str | None,
    typer.Option(
        metavar="SENTENCE",
        help="One instruction for every episode, such as 'pick up the red cube'; what it names is what counts"
        " as success.",
    ),
]
EnvSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        metavar="KEY=VALUE",
        help="Setting of the environment, such as dt=0.004, control_dt=0.1, max_episode_steps=300 or"
        " xml_path=scene.xml; may be repeated; see `simscale config env`.",
    ),
]
CameraPoses = Annotated[
    list[str] | None,
    typer.Option(
        "--camera-pose",
        metavar="NAME:X,Y,Z:X,Y,Z",
        help="Move or add a camera: its position, and the point at which it looks (m); may be repeated.",
    ),
]
Cameras = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[:WxH[:FOV]],...",
        help="Cameras to render, such as wrist_cam,front_cam or wrist_cam:96x72:50; may be repeated.",
    ),
]
ImageSize = Annotated[
    int, typer.Option(min=1, help="Height and width in pixels of images without a size.")
]
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
Workers = Annotated[
    int, typer.Option(min=1, help="Number of processes, or of tasks that run at once.")
]
Executor = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[:OPTIONS]",
        help="What runs the work: processes, slurm or ray, as in slurm:partition=cpu,timeout_min=240.",
    ),
]

# {setting of the environment: the flag that gives it}
_FLAGS = {
    "cameras": "--cameras",
    "camera_poses": "--camera-pose",
    "domain_randomization": "--randomize",
    "randomization_level": "--randomize",
    "robot": "--robot",
    "seed": "--seed",
}


def names(texts: list[str] | None) -> list[str]:
    """Return the parts of lists such as "wrist_cam,front_cam", of an option that may be repeated."""
    return [part.strip() for text in texts or () for part in text.split(",") if part.strip()]


def env_settings(words: Sequence[str] | None, poses: Sequence[str] | None = None) -> JsonDict:
    """Return the fields of `SimConfig` that `--env` and `--camera-pose` give.

    Raises:
      UserError: a word is no setting, or one that has a flag of its own; a pose is none.
    """
    from simscaleai.config import parse_override

    settings: JsonDict = dict(map(parse_override, words or ()))
    # two ways to give one setting could differ, and one of them would win silently
    for key in settings.keys() & _FLAGS.keys():
        raise UserError(f"The environment's {key} has a flag of its own: {_FLAGS[key]}.")
    # the simulator is imported only if there is something to check: help and errors stay fast
    if settings:
        from simscaleai.config import load_config
        from simscaleai.sim.base_env import SimConfig

        load_config(SimConfig, overrides=words or ())  # the error names the word
    if poses:
        settings["camera_poses"] = dict(map(_pose, poses))
    return settings


def _pose(text: str) -> tuple[str, list[float]]:
    """Return name, position and target of "NAME:X,Y,Z:X,Y,Z"."""
    name, *points = text.split(":")
    try:
        numbers = [float(number) for point in points for number in point.split(",")]
    except ValueError:
        numbers = []  # the sentence below explains the whole form
    if not name or len(points) != 2 or len(numbers) != 6:
        raise UserError(
            f"{text!r} is no pose of a camera; give its name, its position and the point at which it looks,"
            " as in side_cam:1,0.8,0.6:0.4,0,0.1 (m)."
        )
    return name, numbers


def given(flags: Mapping[str, object]) -> JsonDict:
    """Return the flags that were given, as plain values; the others keep their settings."""
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in flags.items()
        if value is not None
    }
