"""Pictures from the cameras of a scene, through OpenGL (`mujoco.Renderer`).

OpenGL contexts are made at the first picture and belong to the thread that made them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError, unknown_name

_NO_OPENGL = (
    "There is no OpenGL to render with ({reason}); install libegl1 and libgl1 (or libosmesa6) and set"
    " MUJOCO_GL=egl (or osmesa), or do without pictures: cameras=[]."
)


class CameraRenderer:
    """Renders `model` from its cameras; `cameras` are `CameraConfig`s, the first is the default.

    A camera without a configuration has the size of the first one (128 x 128 if there is none) and the
    field of view that the scene gives it.
    """

    def __init__(self, model: mujoco.MjModel, cameras: Sequence[Any] = ()) -> None:
        self._model = model
        self._configs = {camera.name: camera for camera in cameras}
        self._size = (cameras[0].height, cameras[0].width) if cameras else (128, 128)
        self._names = [model.camera(i).name for i in range(model.ncam)]
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}

    def render(
        self,
        data: mujoco.MjData,
        camera: str | None = None,
        *,
        depth: bool = False,
        segmentation: bool = False,
    ) -> dict[str, NDArray[Any]]:
        """A picture of `data`, whose derived fields must be current.

        Args:
          camera: one of the scene's; None for the first one configured, or the scene's first.
          depth: also "depth", (H, W) float32, distance along the optical axis in m.
          segmentation: also "segmentation", (H, W) int32 geom ids, -1 for none.

        Returns:
          {"rgb": (H, W, 3) uint8} and what was asked for.

        Raises:
          UserError: the scene has no such camera, or there is no OpenGL here.
        """
        if camera is None:
            camera = next(iter(self._configs), self._names[0] if self._names else "")
        if camera not in self._names:
            raise unknown_name("camera", camera, self._names)
        config = self._configs.get(camera)
        renderer = self._renderer((config.height, config.width) if config else self._size)
        view = mujoco.MjvCamera()
        view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        view.fixedcamid = self._names.index(camera)
        fovy = self._model.cam_fovy[view.fixedcamid]
        if config:
            self._model.cam_fovy[view.fixedcamid] = config.fov
        try:
            renderer.update_scene(data, view)
            pictures: dict[str, NDArray[Any]] = {"rgb": renderer.render()}
            if depth:
                renderer.enable_depth_rendering()
                pictures["depth"] = renderer.render().astype(np.float32)
                renderer.disable_depth_rendering()
            if segmentation:
                renderer.enable_segmentation_rendering()
                ids, kinds = np.moveaxis(renderer.render(), -1, 0)
                geoms = np.where(kinds == mujoco.mjtObj.mjOBJ_GEOM, ids, -1)
                pictures["segmentation"] = geoms.astype(np.int32)
                renderer.disable_segmentation_rendering()
        finally:
            self._model.cam_fovy[view.fixedcamid] = fovy
        return pictures

    def close(self) -> None:
        """Free the OpenGL contexts."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _renderer(self, size: tuple[int, int]) -> mujoco.Renderer:
        if size not in self._renderers:
            try:
                self._renderers[size] = mujoco.Renderer(self._model, *size)
            except Exception as error:  # each OpenGL platform fails in a way of its own
                reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
                raise UserError(_NO_OPENGL.format(reason=reason)) from error
        return self._renderers[size]


def open_window(model: mujoco.MjModel, data: mujoco.MjData) -> Any:
    """A window that shows `data` at each `sync()`; UserError where there is no display."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise UserError(
            "render_mode='human' needs a display and there is none; use render_mode='rgb_array'."
        )
    import mujoco.viewer

    return mujoco.viewer.launch_passive(model, data)
