"""Pictures through OpenGL, with `mujoco.Renderer`: EGL, OSMesa or a window system (`MUJOCO_GL`).

Trap: a context belongs to the thread that made it, and does not survive a fork.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError
from simscaleai.rendering.render_camera import RenderCamera, blank, model_with
from simscaleai.rendering.render_state import RenderState

_NO_OPENGL = (
    "There is no OpenGL to render with ({reason}); use the ray tracer, pip install 'simscaleai[render]', or"
    " install libegl1 and libgl1 (or libosmesa6) and set MUJOCO_GL=egl (or osmesa), or do without"
    " pictures: cameras=[]."
)
_FARTHEST = 0.999  # of the far plane; OpenGL gives the far plane's depth where there is nothing


class GlEngine:
    """Draws simulations of `model` through `lenses`, one after the other.

    Raises:
      UserError: there is no OpenGL here.
    """

    name = "gl"

    def __init__(
        self,
        model: mujoco.MjModel,
        lenses: Sequence[RenderCamera],
        n: int,
        threads: int,
        samples: int,
    ) -> None:
        self._lenses = lenses
        self._model = model_with(model, lenses)
        self._data = mujoco.MjData(self._model)
        self._option = mujoco.MjvOption()
        self._option.sitegroup[:] = 0  # marks for us, not things to be seen
        for lens in lenses:
            width, height = self._model.vis.global_.offwidth, self._model.vis.global_.offheight
            self._model.vis.global_.offwidth = max(width, lens.width)
            self._model.vis.global_.offheight = max(height, lens.height)
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}
        self._renderer(lenses[0])

    def draw(
        self,
        view: RenderState,
        chosen: Sequence[int],
        depth: bool,
        segmentation: bool,
        rows: NDArray[np.intp] | None = None,
    ) -> list[dict[str, NDArray[Any]]]:
        """The pictures of the lenses `chosen`, {kind: (n, H, W, ...)} each; always of all rows."""
        out = [blank(self._lenses[i], view.n, depth, segmentation) for i in chosen]
        for row in range(view.n):
            for name, values in view.looks.items():
                look = values[row % len(values)]
                getattr(self._model, name)[:] = look
            data = view.source
            if data is None:
                data = self._data
                for name, values in view.poses.items():
                    getattr(data, name)[:] = values[row]
            for pictures, i in zip(out, chosen, strict=True):
                self._picture(data, self._lenses[i], {k: p[row] for k, p in pictures.items()})
        return out

    def close(self) -> None:
        """Free the OpenGL contexts."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _picture(
        self, data: mujoco.MjData, lens: RenderCamera, pictures: dict[str, NDArray[Any]]
    ) -> None:
        """Fill the `pictures` of one simulation."""
        renderer = self._renderer(lens)
        renderer.update_scene(data, lens.camera_id, self._option)
        renderer.render(out=pictures["rgb"])
        if "depth" in pictures:
            renderer.enable_depth_rendering()
            metres = renderer.render()
            renderer.disable_depth_rendering()
            far = self._model.vis.map.zfar * self._model.stat.extent
            pictures["depth"][:] = np.where(metres < _FARTHEST * far, metres, 0)
        if "segmentation" in pictures:
            renderer.enable_segmentation_rendering()
            ids, kinds = np.moveaxis(renderer.render(), -1, 0)
            pictures["segmentation"][:] = np.where(kinds == mujoco.mjtObj.mjOBJ_GEOM, ids, -1)
            renderer.disable_segmentation_rendering()

    def _renderer(self, lens: RenderCamera) -> mujoco.Renderer:
        size = (lens.height, lens.width)
        if size not in self._renderers:
            try:
                self._renderers[size] = mujoco.Renderer(self._model, *size)
            except Exception as error:  # each OpenGL platform fails in a way of its own
                reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
                if "GLContext" in reason:  # a class that is there where MuJoCo may use OpenGL
                    reason = f"MUJOCO_GL is {os.environ.get('MUJOCO_GL')!r}"
                raise UserError(_NO_OPENGL.format(reason=reason)) from error
        return self._renderers[size]
