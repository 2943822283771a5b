"""Draw images of n simulations of one model, from the cameras of its scene.

See the package's docstring for an example. Engines are made, and cameras checked, only at the first image, so
that an environment without images pays nothing.

Trap: `RenderState` may hold live arrays. Render before the simulations are stepped again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Protocol

import mujoco
import numpy as np

from simscaleai.array_types import EnvIds
from simscaleai.errors import UserError, unknown_name
from simscaleai.rendering.engine import ENGINES, Engine, Images, make_engine
from simscaleai.rendering.engine_settings import EngineSettings
from simscaleai.rendering.render_camera import RenderCamera, camera_of
from simscaleai.rendering.render_state import RenderState

DEFAULT_SIZE = (128, 128)  # height, width in pixels

DEPTH_STEPS = np.float32(2**13)
"""Depths are rounded to multiples of 1/8192 m (0.12 mm), finer than either engine resolves at 1 m. The
remaining digits of a float32 are noise, which would not compress."""


class CameraSettings(Protocol):
    """Settings of a camera, such as `sim.CameraConfig`: size in pixels, and vertical `fov` in degrees."""

    name: str
    width: int
    height: int
    fov: float


class Renderer:
    """Draws n simulations of `model` through several cameras in one call.

    Args:
      model: the model of the simulations.
      cameras: settings, or names of cameras, which then have 128 x 128 pixels and the scene's field of view.
        Every other camera of the scene can be drawn as well, with the size of the first of these cameras
        (else 128 x 128) and the scene's field of view.
      n: number of simulations of a `RenderState`.
      engine: "auto", "warp" or "gl".
      threads: number of threads of "warp"; 0: one for each core.
      samples: rays per pixel and side of "warp"; 2 smooths edges at four times the cost.

    Raises:
      UserError: there is no such engine.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        cameras: Sequence[CameraSettings | str] = (),
        n: int = 1,
        *,
        engine: str = "auto",
        threads: int = 0,
        samples: int = 1,
    ) -> None:
        if engine not in ENGINES:
            raise unknown_name("render engine", engine, ENGINES)
        self.model, self.n = model, n
        self._settings = tuple(cameras)
        self._wanted, self._threads, self._samples = engine, threads, samples
        self._engines: dict[tuple[str, ...], Engine] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_engines": {}}  # a copy makes its own at its first image

    @cached_property
    def cameras(self) -> dict[str, RenderCamera]:
        """Configured cameras by name.

        Raises:
          UserError: the scene has no such camera, no engine draws it, or one is named twice.
        """
        cameras = {camera.name: camera for camera in map(self._configured, self._settings)}
        if len(cameras) < len(self._settings):
            raise UserError("`cameras` names a camera twice; name each one once.")
        return cameras

    @property
    def default_camera(self) -> str:
        """Name of the first configured camera, or of the scene's first.

        Raises:
          UserError: the scene has no camera.
        """
        if self._settings:
            return next(iter(self.cameras))
        if not self.model.ncam:
            raise UserError("The scene has no camera to render; add one to its file.")
        name: str = self.model.camera(0).name
        return name

    @property
    def engine(self) -> str:
        """Name of the engine that draws the configured cameras: "warp" or "gl"."""
        return self._engine_of(self.cameras).name

    def render(
        self,
        state: RenderState,
        cameras: Sequence[str] | None = None,
        *,
        depth: bool = False,
        segmentation: bool = False,
        env_ids: EnvIds | None = None,
    ) -> dict[str, Images]:
        """Draw the simulations of `state`, whose derived fields must be current.

        Args:
          state: poses and appearance of the n simulations.
          cameras: names of cameras of the scene; all configured ones by default.
          depth: also return "depth", the distance along the optical axis in m, 0 for the background.
          segmentation: also return "segmentation", geom ids, -1 for the background.
          env_ids: simulations that have changed since the last call for these cameras; all by default. The
            images of the others may be those of that call.

        Returns:
          {camera: `Images` with a leading axis n}; new arrays.

        Raises:
          UserError: the scene has no such camera, or nothing here can draw it.
        """
        assert state.n == self.n, (state.n, self.n)
        names = list(self.cameras if cameras is None else cameras)
        # One engine draws all configured cameras at once; each other camera has an engine of its own.
        configured = [name for name in names if name in self.cameras]
        drawn: dict[str, Images] = {}
        for group in [configured, *([name] for name in names if name not in self.cameras)]:
            if group:
                known = self.cameras if group is configured else self._unconfigured(group[0])
                chosen = [list(known).index(name) for name in group]
                images = self._engine_of(known).draw(state, chosen, depth, segmentation, env_ids)
                drawn.update(zip(group, images, strict=True))
        if depth:
            for images_of_camera in drawn.values():
                meters = images_of_camera["depth"]
                images_of_camera["depth"] = np.round(meters * DEPTH_STEPS) / DEPTH_STEPS
        return {name: drawn[name] for name in names}

    def close(self) -> None:
        """Release the engines; the next image makes new ones."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()

    def _engine_of(self, cameras: Mapping[str, RenderCamera]) -> Engine:
        """Return the engine for these cameras, made on first use."""
        key = tuple(cameras)
        if key not in self._engines:
            threads = self._threads or _cores()
            settings = EngineSettings(list(cameras.values()), self.n, threads, self._samples)
            self._engines[key] = make_engine(self._wanted, self.model, settings)
        return self._engines[key]

    def _configured(self, camera: CameraSettings | str) -> RenderCamera:
        """Return a configured camera of the scene; UserError for sizes that cannot be drawn."""
        if isinstance(camera, str):
            height, width = DEFAULT_SIZE
            return camera_of(self.model, camera, width, height, None)
        if camera.width < 1 or camera.height < 1 or not 0 < camera.fov < 180:
            raise UserError(
                f"The camera {camera.name!r} has {camera.width} x {camera.height} pixels and a field of view"
                f" of {camera.fov} degrees; give at least 1 x 1 and between 0 and 180 degrees."
            )
        fov = float(camera.fov)
        return camera_of(self.model, camera.name, camera.width, camera.height, fov)

    def _unconfigured(self, name: str) -> dict[str, RenderCamera]:
        """Return a camera of the scene with the size of the first configured one."""
        first = next(iter(self.cameras.values()), None)
        height, width = DEFAULT_SIZE if first is None else (first.height, first.width)
        return {name: camera_of(self.model, name, width, height, None)}


def _cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
