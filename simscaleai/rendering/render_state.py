"""What a camera needs to know of n simulations: where things are and how they look.

A `RenderState` names its arrays as MjData and MjModel do, each with a leading axis n. It is all that a
renderer gets from a simulation: a renderer runs no physics, and a simulation knows no renderer.

Trap: the arrays may be live. Render, or copy them, before the simulations go on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

POSE_FIELDS = ("geom_xpos", "geom_xmat", "cam_xpos", "cam_xmat", "light_xpos", "light_xdir")
"""MjData fields, world frame: positions (n, k, 3) in m, rotations (n, k, 9), directions (n, k, 3)."""

VISUAL_FIELDS = (
    "geom_rgba",
    "geom_size",
    "mat_emission",
    "mat_rgba",
    "mat_shininess",
    "mat_specular",
    "light_active",
    "light_ambient",
    "light_diffuse",
    "light_specular",
)
"""MjModel fields that may differ from simulation to simulation."""


@dataclass(frozen=True)
class RenderState:
    """n simulations as cameras see them.

    Attributes:
      poses: every field of `POSE_FIELDS`.
      looks: those fields of `VISUAL_FIELDS` that may differ from the model's, (n, ...), or (1, ...) where
        all simulations have the same.
      source: with n = 1, the simulation itself; OpenGL draws from it what poses do not cover (tendons,
        skins, flexes).
    """

    poses: dict[str, NDArray[Any]]
    looks: dict[str, NDArray[Any]] = field(default_factory=dict)
    source: mujoco.MjData | None = None

    @property
    def n(self) -> int:
        """How many simulations."""
        return len(self.poses["geom_xpos"])

    @classmethod
    def of(cls, model: mujoco.MjModel, data: mujoco.MjData) -> RenderState:
        """One simulation (n = 1), whose derived fields must be current."""
        return cls(
            {name: getattr(data, name)[None] for name in POSE_FIELDS},
            {name: getattr(model, name)[None] for name in VISUAL_FIELDS},
            data,
        )


def intrinsics(
    width: int, height: int, fov: float, shift: tuple[float, float] = (0.0, 0.0)
) -> NDArray[np.float64]:
    """The matrix (3, 3) that projects a point before a camera onto its picture.

    For (x, y, z) in the camera's frame of `extrinsics`, K (x, y, z) / z is (column, row) in pixels, of which
    (0, 0) is the upper left corner of the picture: the centre of its first pixel is (0.5, 0.5).

    Args:
      fov: vertical field of view, degrees.
      shift: how far to the right of the middle and below it the principal point is, in heights of the
        picture; `Renderer.cameras` has that of each camera.
    """
    focal = 0.5 * height / np.tan(np.radians(fov) / 2)
    column, row = width / 2 + shift[0] * height, height / 2 + shift[1] * height
    return np.array([[focal, 0, column], [0, focal, row], [0, 0, 1]])


def extrinsics(view: RenderState, camera_id: int) -> NDArray[np.float64]:
    """Where a camera is: (n, 4, 4) from its frame to the world's, m.

    The frame is that of computer vision: x to the right of the picture, y down, z along the optical axis.
    (MuJoCo's own has y up and looks along -z.)
    """
    pose = np.tile(np.eye(4), (view.n, 1, 1))
    pose[:, :3, :3] = view.poses["cam_xmat"][:, camera_id].reshape(-1, 3, 3) * [1, -1, -1]
    pose[:, :3, 3] = view.poses["cam_xpos"][:, camera_id]
    return pose
