"""Move the cameras of a scene, or add some, before it is compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mujoco
import numpy as np

from simscaleai.array_types import FloatArray
from simscaleai.errors import UserError

_CLOSE = 1e-6  # m or a sine, below which a direction is not defined


def place_cameras(spec: mujoco.MjSpec, poses: Mapping[str, Sequence[float]]) -> None:
    """Give cameras the poses of `SimConfig.camera_poses`.

    Args:
      spec: a scene that is not compiled yet.
      poses: {camera: [x, y, z, x, y, z]}, position and target, m in the world frame.

    Raises:
      UserError: a pose is not six finite numbers with a direction, or the camera moves with a body.
    """
    for name, pose in poses.items():
        axes = _axes(name, pose)
        camera = spec.camera(name)
        if camera is None:
            camera = spec.worldbody.add_camera(name=name)
        elif camera.parent.name != "world":
            raise UserError(
                f"The camera {name!r} moves with the body {camera.parent.name!r} and has no pose in the"
                " world; give the pose a new name, which adds a camera."
            )
        camera.mode = mujoco.mjtCamLight.mjCAMLIGHT_FIXED  # it may follow a body in the file
        camera.pos = pose[:3]
        # the alternative form stands above `quat`, and a file may have used it
        camera.alt.type = mujoco.mjtOrientation.mjORIENTATION_XYAXES
        camera.alt.xyaxes = axes


def _axes(name: str, pose: Sequence[float]) -> FloatArray:
    """Return the x and y axes of a camera, (6,): to the right and up in its image."""
    wrong = (
        f"The pose of the camera {name!r} is {pose!r}; give x, y, z of its position and then of another point"
        " at which it looks, m."
    )
    try:
        numbers = np.asarray(pose, dtype=np.float64)
    except (TypeError, ValueError):  # a text, or lists of different lengths
        raise UserError(wrong) from None
    if numbers.shape != (6,) or not np.isfinite(numbers).all():
        raise UserError(wrong)
    forward = numbers[3:] - numbers[:3]  # (3,)
    distance = np.linalg.norm(forward)
    if distance < _CLOSE:
        raise UserError(wrong)
    forward /= distance
    # straight up or down, the robot's forward direction +x is up in the image
    vertical = np.hypot(forward[0], forward[1]) < _CLOSE
    up = np.array([1.0, 0.0, 0.0] if vertical else [0.0, 0.0, 1.0])
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    axes: FloatArray = np.concatenate([right, np.cross(right, forward)])
    return axes
