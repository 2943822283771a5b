"""Poses and appearance of n simulations, as a renderer reads them.

A `RenderState` names its arrays as MjData and MjModel do, each with a leading axis n. A renderer gets nothing
else from a simulation: it runs no physics.

Trap: the arrays may be live. Render, or copy them, before the simulations are stepped.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import mujoco
import numpy as np

from simscaleai.array_types import ArrayDict, FloatArray

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
    """Poses and appearance of n simulations of one model.

    Attributes:
      poses: every field of `POSE_FIELDS`.
      visuals: the fields of `VISUAL_FIELDS` that may differ from the model's, (n, ...), or (1, ...) if all
        simulations have the same values.
      source: with n = 1, the simulation itself; OpenGL draws from it what poses do not cover (tendons,
        skins, flexes).
    """

    poses: ArrayDict
    visuals: ArrayDict = field(default_factory=dict)
    source: mujoco.MjData | None = None

    @property
    def n(self) -> int:
        """Number of simulations."""
        return len(self.poses["geom_xpos"])

    @classmethod
    def of(cls, model: mujoco.MjModel, data: mujoco.MjData) -> RenderState:
        """Return the state of one simulation (n = 1), whose derived fields must be current."""
        return cls(
            {name: getattr(data, name)[None] for name in POSE_FIELDS},
            {name: getattr(model, name)[None] for name in VISUAL_FIELDS},
            data,
        )


def intrinsics(
    width: int, height: int, fov: float, shift: tuple[float, float] = (0.0, 0.0)
) -> FloatArray:
    """Return the matrix K (3, 3) that projects a point in front of a camera onto its image.

    For a point (x, y, z) in the camera frame of `extrinsics`, K (x, y, z) / z = (column, row, 1) in pixels.
    (0, 0) is the upper left corner of the image, and the center of its first pixel is (0.5, 0.5).

    Args:
      fov: vertical field of view, degrees.
      shift: distance of the principal point from the image center, to the right and down, in image heights;
        `Renderer.cameras` has that of each camera.
    """
    focal = 0.5 * height / np.tan(np.radians(fov) / 2)
    column, row = width / 2 + shift[0] * height, height / 2 + shift[1] * height
    return np.array([[focal, 0, column], [0, focal, row], [0, 0, 1]])


def extrinsics(state: RenderState, camera_id: int) -> FloatArray:
    """Return the poses (n, 4, 4) of a camera: transforms from the camera frame to the world frame, m.

    The camera frame is that of computer vision: x to the right of the image, y down, z along the optical
    axis. (MuJoCo's own camera frame has y up and looks along -z.)
    """
    pose = np.tile(np.eye(4), (state.n, 1, 1))
    pose[:, :3, :3] = state.poses["cam_xmat"][:, camera_id].reshape(-1, 3, 3) * [1, -1, -1]
    pose[:, :3, 3] = state.poses["cam_xpos"][:, camera_id]
    return pose
