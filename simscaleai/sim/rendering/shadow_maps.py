"""Where the lights that cast shadows look at the meshes from, to draw how far their light goes.

A map is a picture of all meshes of a scene, as wide as they are when seen from the light, so that its pixels
are fine however wide the light shines. What is no mesh casts its shadow by rays (`rendering.tracer`).

Trap: a light among the meshes sees those within 76 degrees of the line to their middle only.
"""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.sim.rendering.loading import meshes, visible

WIDEST = 4.0  # half of a map at distance 1
DISTANCE = 20.0  # from where a directional light is taken to shine, in extents of the scene

Array = NDArray[np.floating]


class ShadowMaps:
    """The views of the maps of n rows: `xpos` (n, k, 3), `xmat` (n, k, 3, 3) and `pixel` (n, k).

    Args:
      size: pixels of a side.
    """

    def __init__(self, model: mujoco.MjModel, size: int) -> None:
        seen = visible(model)
        self._geoms = seen[model.geom_type[seen] == mujoco.mjtGeom.mjGEOM_MESH]
        self._lights = np.flatnonzero(model.light_castshadow)
        self._far = (model.light_type == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL)[self._lights]
        self._distance = DISTANCE * model.stat.extent
        shape = meshes(model)
        self._middle = shape["geom_middle"][self._geoms]
        self._radius = np.linalg.norm(shape["geom_half"][self._geoms], axis=1)
        self.count = len(self._lights) if len(self._geoms) else 0
        self.size = size if self.count else 0

    def aim(self, poses: dict[str, Array]) -> tuple[Array, Array, Array]:
        """Positions (n, k, 3), axes (n, k, 3, 3) and sizes of a pixel at distance 1 (n, k) of the maps.

        Args:
          poses: those of a `View`, matrices as (n, ngeom, 3, 3).
        """
        turn = poses["geom_xmat"][:, self._geoms]
        middle = poses["geom_xpos"][:, self._geoms] + (turn @ self._middle[:, :, None])[..., 0]
        low = (middle - self._radius[:, None]).min(1)
        centre = 0.5 * (low + (middle + self._radius[:, None]).max(1))[:, None]
        direction = poses["light_xdir"][:, self._lights]
        place = np.where(
            self._far[:, None],
            centre - self._distance * direction,
            poses["light_xpos"][:, self._lights],
        )
        back = _unit(place - centre)
        side = np.where(np.abs(back[..., 2:]) < 0.9, [0.0, 0, 1], [1.0, 0, 0])
        across = _unit(np.cross(side, back))
        axes = np.stack([across, np.cross(back, across), back], -1)
        local = (middle[:, None] - place[:, :, None]) @ axes  # (n, k, meshes, 3)
        ahead = -local[..., 2] - self._radius
        beside = np.abs(local[..., :2]).max(-1) + self._radius
        half = np.where(ahead > beside / WIDEST, beside / np.maximum(ahead, 1e-6), WIDEST).max(-1)
        return place, axes, 2 * half / self.size


def _unit(v: Array) -> Array:
    unit: Array = v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)
    return unit
