"""Make camera settings from texts such as "wrist_cam", "wrist_cam:96x72" or "wrist_cam:96x72:50"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import mujoco

from simscaleai.errors import UserError, unknown_name
from simscaleai.sim.base_env import CameraConfig
from simscaleai.sim.factory import make_vec_env

OBSERVER = "observer_cam"  # shows the whole arm, in our scenes
_PARTS = re.compile(r"(?P<name>[^:]*)(?::(?P<size>\d+x\d+))?(?::(?P<fov>\d+(?:\.\d*)?))?")


class View(NamedTuple):
    """A camera as a text names it; None stands for what the text leaves out."""

    name: str
    size: tuple[int, int] | None  # (height, width), pixels
    fov: float | None  # vertical field of view, degrees


def parse_view(text: str) -> View:
    """Read "NAME[:WIDTHxHEIGHT][:FOV]"; UserError for another form, or a size or angle that is none."""
    found = _PARTS.fullmatch(text)
    size = fov = None
    if found is not None and found["size"]:
        width, height = map(int, found["size"].split("x"))
        size = (height, width)
    if found is not None and found["fov"]:
        fov = float(found["fov"])
    if found is None or (size is not None and 0 in size) or (fov is not None and not 0 < fov < 180):
        raise UserError(
            f"{text!r} does not name a camera; give its name, and perhaps width and height in pixels and the"
            " vertical field of view in degrees, as in wrist_cam:96x72:50."
        )
    return View(found["name"], size, fov)


def scene_cameras(
    env_name: str, names: Sequence[str], image_size: int = 64, **settings: Any
) -> list[CameraConfig]:
    """Return cameras of a registered environment; what a name leaves out, its scene or `image_size` gives.

    Args:
      names: cameras of the scene, as of `parse_view`; the first becomes the observation `image`.
      image_size: pixels per side of cameras without a size.
      **settings: other `SimConfig` fields, such as `xml_path`.

    Raises:
      UserError: the scene has no such camera, or a size below 1.
    """
    if image_size < 1:
        raise UserError(f"image_size is {image_size}; it must be at least 1 pixel.")
    # only the compiled scene knows its cameras
    env = make_vec_env(env_name, 1, **{**settings, "cameras": []})
    env.close()
    return [view_of(env.model, name, (image_size, image_size)) for name in names]


def view_of(model: mujoco.MjModel, name: str | None, size: tuple[int, int]) -> CameraConfig:
    """Return settings of a camera; what its name leaves out, the scene or `size` gives.

    Args:
      model: a compiled scene.
      name: as of `parse_view`; None is `OBSERVER`, or the first camera of a scene without it.
      size: (height, width), pixels.

    Raises:
      UserError: the scene has no such camera.
    """
    known = [model.camera(i).name for i in range(model.ncam)]
    if name is None:
        name = OBSERVER if OBSERVER in known or not known else known[0]
    view = View(name, None, None) if name in known else parse_view(name)
    if view.name not in known:
        raise unknown_name("camera", view.name, known)
    height, width = view.size or size
    fov = view.fov or float(model.camera(view.name).fovy[0])
    return CameraConfig(view.name, width, height, fov)
