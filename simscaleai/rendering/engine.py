"""Interface of the render engines, and the choice of one for a model."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Protocol

import mujoco

from simscaleai.array_types import ArrayDict, EnvIds
from simscaleai.errors import UserError
from simscaleai.rendering.engine_settings import EngineSettings
from simscaleai.rendering.render_state import RenderState

ENGINES = ("auto", "warp", "gl")

Images = ArrayDict
"""{"rgb": (..., H, W, 3) uint8} and where asked for "depth" (..., H, W) float32 in m and "segmentation"
(..., H, W) int32 geom ids, -1 for none."""


class Engine(Protocol):
    """Draws n simulations of one model through the cameras that it was made with."""

    name: str

    def draw(
        self,
        state: RenderState,
        chosen: Sequence[int],
        depth: bool,
        segmentation: bool,
        env_ids: EnvIds | None = None,
    ) -> list[Images]:
        """Draw the cameras with indices `chosen`: {kind: (n, H, W, ...)} of each.

        Args:
          env_ids: envs that have changed since the last call; the images of the others may be those of
            that call.
        """

    def close(self) -> None:
        """Release threads, buffers and contexts."""


def make_engine(wanted: str, model: mujoco.MjModel, settings: EngineSettings) -> Engine:
    """Return the engine `wanted`, one of `ENGINES`, or the first that draws `model` for "auto".

    Raises:
      UserError: the engine is not installed, or cannot draw the scene.
    """
    from simscaleai.rendering.general_engine import GeneralEngine
    from simscaleai.rendering.gl_engine import GlEngine
    from simscaleai.rendering.loading import can_draw
    from simscaleai.rendering.warp_engine import WarpEngine

    if wanted == "gl" or (wanted == "auto" and importlib.util.find_spec("warp") is None):
        return GlEngine(model, settings)
    if can_draw(model):
        return WarpEngine(model, settings)
    try:
        return GeneralEngine(model, settings)
    except UserError:  # a scene with what this engine cannot draw either
        if wanted == "warp":
            raise
    return GlEngine(model, settings)
