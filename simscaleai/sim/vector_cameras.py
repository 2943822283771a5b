"""What cameras see of the n simulations of a vector environment; nothing is made before the first image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError
from simscaleai.sim.base_env import SimConfig
from simscaleai.sim.physics import BatchSim, Rows


class VectorCameras:
    """The configured cameras, or for `frames` the scene's first one where none is.

    Args:
      sim: the simulations.
      config: says which cameras, and which engine draws.
      num_threads: how many draw; 0 is one for each core.
    """

    def __init__(self, sim: BatchSim, config: SimConfig, num_threads: int) -> None:
        self._sim, self._config, self._num_threads = sim, config, num_threads
        self._renderer: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_renderer": None}  # a copy makes its own at the first image

    def render(
        self, depth: bool, segmentation: bool, changed: Rows | None = None
    ) -> dict[str, dict[str, NDArray[Any]]]:
        """Return {camera: {"rgb": (n, H, W, 3) uint8, ...}} of the configured cameras.

        Args:
          depth: also "depth", (n, H, W) float32 in m.
          segmentation: also "segmentation", (n, H, W) int32 geom ids, -1 for none.
          changed: env ids that are not as they were at the last call; all by default.
        """
        names = [camera.name for camera in self._config.cameras]
        return self._draw(names, depth=depth, segmentation=segmentation, rows=changed)

    def frames(self) -> NDArray[np.uint8]:
        """What the first camera sees, (n, H, W, 3)."""
        model, cameras = self._sim.model, self._config.cameras
        if not cameras and not model.ncam:
            raise UserError("The scene has no camera to render; add one to its file.")
        name = cameras[0].name if cameras else model.camera(0).name
        rgb: NDArray[np.uint8] = self._draw([name])[name]["rgb"]
        return rgb

    def close(self) -> None:
        """Release the renderer; the next image would make another."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _draw(self, names: list[str], **settings: Any) -> dict[str, dict[str, NDArray[Any]]]:
        if not names:
            return {}
        if self._renderer is None:
            from simscaleai.rendering import Renderer

            self._renderer = Renderer(
                self._sim.model,
                self._config.cameras or names,
                self._sim.n,
                engine=self._config.render_engine,
                threads=self._num_threads,
            )
        images: dict[str, dict[str, NDArray[Any]]] = self._renderer.render(
            self._sim.render_state(), names, **settings
        )
        return images
