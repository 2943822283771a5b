"""Size, field of view and principal point of a camera: what is the same in every simulation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from simscaleai.array_types import ArrayDict
from simscaleai.errors import UserError, unknown_name


@dataclass(frozen=True)
class RenderCamera:
    """Camera `camera_id` of a model.

    Attributes:
      width, height: pixels.
      fov: vertical, degrees.
      shift: distance of the principal point from the image center, to the right and down, in image
        heights.
    """

    name: str
    camera_id: int
    width: int
    height: int
    fov: float
    shift: tuple[float, float] = (0.0, 0.0)

    @property
    def principal_point(self) -> tuple[float, float]:
        """Where the optical axis crosses the image: (column, row) in pixels from the upper left corner."""
        right, down = self.shift
        return 0.5 * self.width + right * self.height, (0.5 + down) * self.height


def camera_of(
    model: mujoco.MjModel, name: str, width: int, height: int, fov: float | None
) -> RenderCamera:
    """Return a camera of the scene, with its principal point; `fov` None is the scene's field of view.

    Raises:
      UserError: there is no such camera, or no engine draws what it sees.
    """
    names = [model.camera(i).name for i in range(model.ncam)]
    if name not in names:
        raise unknown_name("camera", name, names)
    i = names.index(name)
    if model.cam_projection[i] == mujoco.mjtProjection.mjPROJ_ORTHOGRAPHIC:
        raise UserError(
            f"The camera {name!r} is orthographic, and images here are perspective; leave out its"
            " projection and put it far away with a small fovy."
        )
    if fov is None:
        fov = float(model.cam_fovy[i])
    sensor = model.cam_sensorsize[i].astype(np.float64)
    if not sensor.all():
        return RenderCamera(name, i, width, height, fov)
    focal, principal = model.cam_intrinsic[i].astype(np.float64).reshape(2, 2)
    resolution = model.cam_resolution[i]
    # size of a pixel, m; MuJoCo stores (1, 1) as the resolution where none is given
    pixels = sensor / resolution if (resolution > 1).all() else np.ones(2)
    across, down = focal / pixels
    if abs(across - down) > 1e-3 * down:
        raise UserError(
            f"The camera {name!r} has pixels that are not square (focal lengths of {across:.6g} and"
            f" {down:.6g} pixels), and images here have square ones; give it equal focal lengths."
        )
    # MuJoCo's principal point counts in m from the center of the sensor
    right, below = -principal / pixels * pixels[1] / sensor[1]
    return RenderCamera(name, i, width, height, fov, (float(right), float(below)))


def model_with(model: mujoco.MjModel, cameras: Sequence[RenderCamera]) -> mujoco.MjModel:
    """Return a copy of `model` whose cameras have the fields of view and principal points of `cameras`."""
    model = copy.copy(model)
    for camera in cameras:
        i = camera.camera_id
        # a principal point off the center needs a sensor, else the field of view is enough
        model.cam_fovy[i] = camera.fov
        model.cam_sensorsize[i] = 0  # or MuJoCo would take the field of view from it
        if any(camera.shift):  # of a sensor with the shape of the image and a height of 1
            focal = 0.5 / np.tan(np.radians(camera.fov) / 2)
            model.cam_sensorsize[i] = camera.width / camera.height, 1.0
            model.cam_intrinsic[i] = focal, focal, -camera.shift[0], -camera.shift[1]
    return model


def blank(camera: RenderCamera, n: int, depth: bool, segmentation: bool) -> ArrayDict:
    """Return uninitialized `Images` for n simulations from `camera`."""
    shape = (n, camera.height, camera.width)
    images: ArrayDict = {"rgb": np.empty((*shape, 3), np.uint8)}
    if depth:
        images["depth"] = np.empty(shape, np.float32)
    if segmentation:
        images["segmentation"] = np.empty(shape, np.int32)
    return images
