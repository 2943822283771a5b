"""Settings of a render engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simscaleai.rendering.render_camera import RenderCamera


@dataclass(frozen=True)
class EngineSettings:
    """Cameras of an engine, and how it draws.

    Attributes:
      cameras: the cameras; `Engine.draw` chooses some of them by index.
      n: number of simulations of a `RenderState`.
      threads: number of threads that draw; "gl" draws with one.
      samples: rays per pixel and side; "gl" takes none.
    """

    cameras: Sequence[RenderCamera]
    n: int
    threads: int
    samples: int
