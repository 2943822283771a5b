"""Render engine with OpenGL: `mujoco.Renderer` over EGL, OSMesa or a window system (`MUJOCO_GL`).

Trap: an OpenGL context belongs to the thread that made it and does not survive a fork.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence

import mujoco
import numpy as np

from simscaleai.array_types import ArrayDict, EnvIds
from simscaleai.errors import MissingPackageError, UserError
from simscaleai.rendering.engine_settings import EngineSettings
from simscaleai.rendering.render_camera import RenderCamera, blank, model_with
from simscaleai.rendering.render_state import RenderState

_NO_OPENGL = (
    "There is no OpenGL to render with ({reason}); use the ray tracer, pip install 'simscaleai[render]', or"
    " install libegl1 and libgl1 (or libosmesa6) and set MUJOCO_GL=egl (or osmesa), or do without"
    " images: cameras=[]."
)
_NOT_INSTALLED = (
    "Rendering needs a package that is not installed: pip install 'simscaleai[render]' for rendering without"
    " OpenGL, or pip install 'simscaleai[gl]' for OpenGL; or do without images: cameras=[]."
)
# Fraction of the far plane's distance from which on a pixel counts as empty: OpenGL returns the far plane's
# depth where there is nothing.
_FARTHEST = 0.999


def gl_packages() -> bool:
    """Return whether the Python packages of OpenGL, which `mujoco-core` does not require, are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("glfw", "OpenGL"))


class GlEngine:
    """Draws simulations of `model`, one after the other.

    Raises:
      MissingPackageError: the Python packages of OpenGL are not installed.
      UserError: there is no OpenGL here.
    """

    name = "gl"

    def __init__(self, model: mujoco.MjModel, settings: EngineSettings) -> None:
        cameras = settings.cameras
        self._cameras = cameras
        self._model = model_with(model, cameras)
        self._data = mujoco.MjData(self._model)
        self._option = mujoco.MjvOption()
        self._option.sitegroup[:] = 0  # sites are markers for programs, not part of the scene
        # The offscreen buffer must hold the largest image.
        for camera in cameras:
            width, height = self._model.vis.global_.offwidth, self._model.vis.global_.offheight
            self._model.vis.global_.offwidth = max(width, camera.width)
            self._model.vis.global_.offheight = max(height, camera.height)
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}
        self._renderer(cameras[0])  # fail now if there is no OpenGL

    def draw(
        self,
        state: RenderState,
        chosen: Sequence[int],
        depth: bool,
        segmentation: bool,
        env_ids: EnvIds | None = None,
    ) -> list[ArrayDict]:
        """Draw the cameras with indices `chosen`: {kind: (n, H, W, ...)} of each; always of all envs."""
        out = [blank(self._cameras[i], state.n, depth, segmentation) for i in chosen]
        for env_id in range(state.n):
            for name, values in state.visuals.items():
                getattr(self._model, name)[:] = values[env_id % len(values)]
            data = state.source
            if data is None:
                data = self._data
                for name, values in state.poses.items():
                    getattr(data, name)[:] = values[env_id]
            for images, i in zip(out, chosen, strict=True):
                self._draw_one(data, self._cameras[i], {k: v[env_id] for k, v in images.items()})
        return out

    def close(self) -> None:
        """Free the OpenGL contexts."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _draw_one(self, data: mujoco.MjData, camera: RenderCamera, images: ArrayDict) -> None:
        """Fill the `images` (H, W, ...) of one simulation."""
        renderer = self._renderer(camera)
        renderer.update_scene(data, camera.camera_id, self._option)
        renderer.render(out=images["rgb"])
        if "depth" in images:
            renderer.enable_depth_rendering()
            meters = renderer.render()
            renderer.disable_depth_rendering()
            far = self._model.vis.map.zfar * self._model.stat.extent
            images["depth"][:] = np.where(meters < _FARTHEST * far, meters, 0)
        if "segmentation" in images:
            renderer.enable_segmentation_rendering()
            ids, kinds = np.moveaxis(renderer.render(), -1, 0)  # (H, W, 2): id and mjtObj
            images["segmentation"][:] = np.where(kinds == mujoco.mjtObj.mjOBJ_GEOM, ids, -1)
            renderer.disable_segmentation_rendering()

    def _renderer(self, camera: RenderCamera) -> mujoco.Renderer:
        """Return the renderer for images of the camera's size, made on first use."""
        size = (camera.height, camera.width)
        if size not in self._renderers:
            try:
                self._renderers[size] = mujoco.Renderer(self._model, *size)
            except Exception as error:  # each OpenGL platform raises exceptions of its own
                if isinstance(error, ImportError) and not gl_packages():
                    raise MissingPackageError(_NOT_INSTALLED) from error
                reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
                # MuJoCo lacks this class where MUJOCO_GL rules OpenGL out
                if "GLContext" in reason:
                    reason = f"MUJOCO_GL is {os.environ.get('MUJOCO_GL')!r}"
                raise UserError(_NO_OPENGL.format(reason=reason)) from error
        return self._renderers[size]
