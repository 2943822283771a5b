"""What draws: the interface of the engines, and which one draws a model."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError
from simscaleai.rendering.render_camera import RenderCamera
from simscaleai.rendering.render_state import RenderState

ENGINES = ("auto", "warp", "gl")

Images = dict[str, NDArray[Any]]
"""{"rgb": (..., H, W, 3) uint8} and where asked for "depth" (..., H, W) float32 in m and "segmentation"
(..., H, W) int32 geom ids, -1 for none."""


class Engine(Protocol):
    """Draws n simulations of one model through the cameras that it was made with."""

    name: str

    def draw(
        self,
        view: RenderState,
        chosen: Sequence[int],
        depth: bool,
        segmentation: bool,
        rows: NDArray[np.intp] | None = None,
    ) -> list[Images]:
        """Draw the cameras with indices `chosen`: {kind: (n, H, W, ...)} of each.

        The last argument names the envs that have changed since the last call; the images of the others
        may be those of that call.
        """

    def close(self) -> None:
        """Release threads, buffers and contexts."""


def make_engine(
    wanted: str,
    model: mujoco.MjModel,
    cameras: Sequence[RenderCamera],
    n: int,
    threads: int,
    samples: int,
) -> Engine:
    """Return the engine `wanted`, one of `ENGINES`, or the first that draws `model` for "auto".

    Raises:
      UserError: the engine is not installed, or cannot draw the scene.
    """
    from simscaleai.rendering.general_engine import GeneralEngine
    from simscaleai.rendering.gl_engine import GlEngine
    from simscaleai.rendering.loading import can_draw
    from simscaleai.rendering.warp_engine import WarpEngine

    if wanted == "gl" or (wanted == "auto" and importlib.util.find_spec("warp") is None):
        return GlEngine(model, cameras, n, threads, samples)
    if can_draw(model):
        return WarpEngine(model, cameras, n, threads, samples)
    try:
        return GeneralEngine(model, cameras, n, threads, samples)
    except UserError:  # not a scene for it either
        if wanted == "warp":
            raise
    return GlEngine(model, cameras, n, threads, samples)
