"""Pictures from the cameras of a scene: RGB, metric depth and segmentation, of one or many simulations.

    renderer = Renderer(model, [CameraConfig("front_cam", 64, 64)], n=16)
    rgb = renderer.render(sim.render_state())["front_cam"]["rgb"]  # (16, 64, 64, 3) uint8

Two engines draw: "warp" traces rays and needs no OpenGL, "gl" is MuJoCo's own renderer. "auto" takes warp
where mujoco-warp is installed; `Renderer.engine` says which one draws. Engines are made at the first
picture. Both draw the same things: geoms of groups 0 to 2, and no sites.

Depth is the distance along the optical axis in m (what a depth camera gives, not the length of the ray),
and 0 where nothing is.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError, unknown_name
from simscaleai.rendering.render_camera import RenderCamera, lens_of
from simscaleai.rendering.render_state import RenderState

ENGINES = ("auto", "warp", "gl")
DEFAULT_SIZE = (128, 128)

DEPTH_STEPS = np.float32(2**13)
"""Depths are whole multiples of 1/8192 m (0.12 mm), finer than what either engine resolves at a metre: the
rest of a float32 is noise, which would not compress."""

Pictures = dict[str, NDArray[Any]]
"""{"rgb": (..., H, W, 3) uint8} and where asked for "depth" (..., H, W) float32 in m and "segmentation"
(..., H, W) int32 geom ids, -1 for none."""


class Engine(Protocol):
    """What draws."""

    name: str

    def draw(
        self,
        view: RenderState,
        chosen: Sequence[int],
        depth: bool,
        segmentation: bool,
        rows: NDArray[np.intp] | None = None,
    ) -> list[Pictures]:
        """The pictures of the lenses with numbers `chosen`."""

    def close(self) -> None:
        """Release what it holds."""


class Renderer:
    """n simulations of `model` through several cameras in one call.

    Args:
      cameras: `CameraConfig`s, or names of cameras that have 128 x 128 pixels and the scene's field of view.
      n: how many simulations a view has.
      engine: "auto", "warp" or "gl".
      threads: how many draw with warp; 0 is one for each core.
      samples: rays per pixel and side with warp: 2 smooths edges at four times the cost.

    Raises:
      UserError: the scene has no such camera, or one is named twice.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        cameras: Sequence[Any],
        n: int = 1,
        *,
        engine: str = "auto",
        threads: int = 0,
        samples: int = 1,
    ) -> None:
        if engine not in ENGINES:
            raise unknown_name("render engine", engine, ENGINES)
        self.lenses = {lens.name: lens for lens in (_lens(model, c) for c in cameras)}
        if len(self.lenses) < len(cameras):
            raise UserError("A camera is there twice in `cameras`; name each one once.")
        self.n = n
        self._model, self._wanted = model, engine
        self._threads = threads or _cores()
        self._samples = samples
        self._engine: Engine | None = None

    @property
    def engine(self) -> str:
        """Which engine draws: "warp" or "gl"."""
        return self._ready().name

    def render(
        self,
        view: RenderState,
        cameras: Sequence[str] | None = None,
        *,
        depth: bool = False,
        segmentation: bool = False,
        rows: NDArray[np.intp] | None = None,
    ) -> dict[str, Pictures]:
        """What `cameras` (all by default) see of the simulations of `view`.

        Args:
          rows: which have changed since the last call for these cameras; all by default. The pictures of the
            others may be those of that call.

        Returns:
          {camera: `Pictures` with a leading axis n}; new arrays.
        """
        assert view.n == self.n, (view.n, self.n)
        names = list(self.lenses) if cameras is None else list(cameras)
        numbers = [list(self.lenses).index(name) for name in names]
        drawn = self._ready().draw(view, numbers, depth, segmentation, rows)
        for pictures in drawn:
            if depth:
                pictures["depth"] = np.round(pictures["depth"] * DEPTH_STEPS) / DEPTH_STEPS
        return dict(zip(names, drawn, strict=True))

    def close(self) -> None:
        """Release the engine; the next picture would make another."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def _ready(self) -> Engine:
        if self._engine is None:
            settings = (list(self.lenses.values()), self.n, self._threads, self._samples)
            self._engine = _make_engine(self._wanted, self._model, *settings)
        return self._engine


class CameraRenderer:
    """One simulation of `model` from its cameras; `cameras` are `CameraConfig`s, the first is the default.

    A camera without a configuration has the size of the first one (128 x 128 if there is none) and the
    field of view that the scene gives it. `model` may change its looks between pictures.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        cameras: Sequence[Any] = (),
        *,
        engine: str = "auto",
        samples: int = 1,
    ) -> None:
        if engine not in ENGINES:
            raise unknown_name("render engine", engine, ENGINES)
        self._model = model
        self._configs = {camera.name: camera for camera in cameras}
        self._settings: Mapping[str, Any] = {"engine": engine, "samples": samples}
        self._size = (cameras[0].height, cameras[0].width) if cameras else DEFAULT_SIZE
        self._names = [model.camera(i).name for i in range(model.ncam)]
        self._renderers: dict[str, Renderer] = {}

    def render(
        self,
        data: mujoco.MjData,
        camera: str | None = None,
        *,
        depth: bool = False,
        segmentation: bool = False,
    ) -> Pictures:
        """A picture of `data`, whose derived fields must be current.

        Args:
          camera: one of the scene's; None for the first one configured, or the scene's first.
          depth: also "depth", (H, W) float32, distance along the optical axis in m, 0 for nothing.
          segmentation: also "segmentation", (H, W) int32 geom ids, -1 for none.

        Returns:
          {"rgb": (H, W, 3) uint8} and what was asked for.

        Raises:
          UserError: the scene has no such camera, or nothing here can render.
        """
        if camera is None:
            camera = next(iter(self._configs), self._names[0] if self._names else "")
        renderer = self._renderer(camera)
        view = RenderState.of(self._model, data)
        seen = renderer.render(view, [camera], depth=depth, segmentation=segmentation)
        return {kind: picture[0] for kind, picture in seen[camera].items()}

    def close(self) -> None:
        """Release the engines."""
        for renderer in set(self._renderers.values()):
            renderer.close()
        self._renderers.clear()

    def _renderer(self, camera: str) -> Renderer:
        """One renderer has all configured cameras, and each other camera its own."""
        if camera not in self._renderers:
            cameras: list[Any] = list(self._configs.values())
            if camera not in self._configs:
                height, width = self._size
                cameras = [lens_of(self._model, camera, width, height, None)]
            made = Renderer(self._model, cameras, **self._settings)
            self._renderers.update(dict.fromkeys(made.lenses, made))
        return self._renderers[camera]


def _lens(model: mujoco.MjModel, camera: Any) -> RenderCamera:
    """The lens of a `CameraConfig` or of a camera's name."""
    if isinstance(camera, str):
        height, width = DEFAULT_SIZE
        return lens_of(model, camera, width, height, None)
    if camera.width < 1 or camera.height < 1 or not 0 < camera.fov < 180:
        raise UserError(
            f"The camera {camera.name!r} has {camera.width} x {camera.height} pixels and a field of view of"
            f" {camera.fov} degrees; give at least 1 x 1 and between 0 and 180 degrees."
        )
    return lens_of(model, camera.name, camera.width, camera.height, float(camera.fov))


def _make_engine(wanted: str, model: mujoco.MjModel, *settings: Any) -> Engine:
    from simscaleai.rendering.general_engine import GeneralEngine
    from simscaleai.rendering.gl_engine import GlEngine
    from simscaleai.rendering.loading import can_draw
    from simscaleai.rendering.warp_engine import WarpEngine

    if wanted == "gl" or (wanted == "auto" and importlib.util.find_spec("warp") is None):
        return GlEngine(model, *settings)
    if can_draw(model):
        return WarpEngine(model, *settings)
    try:
        return GeneralEngine(model, *settings)
    except UserError:  # not a scene for it either
        if wanted == "warp":
            raise
    return GlEngine(model, *settings)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
