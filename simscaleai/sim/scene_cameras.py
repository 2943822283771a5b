"""Make camera settings from names of cameras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco

from simscaleai.errors import UserError, unknown_name
from simscaleai.sim.base_env import CameraConfig
from simscaleai.sim.factory import make_vec_env

OBSERVER = "observer_cam"  # shows the whole arm, in our scenes


def scene_cameras(
    env_name: str, names: Sequence[str], image_size: int = 64, **settings: Any
) -> list[CameraConfig]:
    """Return square cameras of a registered environment, with the fields of view of its scene.

    Args:
      names: of cameras of the scene; the first becomes the observation `image`.
      image_size: pixels per side.
      **settings: other `SimConfig` fields, such as `xml_path`.

    Raises:
      UserError: the scene has no such camera, or a size below 1.
    """
    if image_size < 1:
        raise UserError(f"image_size is {image_size}; it must be at least 1 pixel.")
    # only the compiled scene knows its cameras
    env = make_vec_env(env_name, 1, **{**settings, "cameras": []})
    known = [env.model.camera(i).name for i in range(env.model.ncam)]
    env.close()
    for name in names:
        if name not in known:
            raise unknown_name("camera", name, known)
    fov = {name: float(env.model.cam_fovy[known.index(name)]) for name in names}
    return [CameraConfig(name, image_size, image_size, fov[name]) for name in names]


def view_of(model: mujoco.MjModel, name: str | None, size: tuple[int, int]) -> CameraConfig:
    """Return settings of a camera with the field of view of its scene; by default of the camera for people.

    Args:
      model: a compiled scene.
      name: None is `OBSERVER`, or the first camera of a scene without it.
      size: (height, width), pixels.

    Raises:
      UserError: the scene has no such camera.
    """
    known = [model.camera(i).name for i in range(model.ncam)]
    if name is None:
        name = OBSERVER if OBSERVER in known or not known else known[0]
    if name not in known:
        raise unknown_name("camera", name, known)
    height, width = size
    return CameraConfig(name, width, height, float(model.camera(name).fovy[0]))
