"""Pictures on the CPU, with Warp: no OpenGL, no display, no system package.

Meshes are rasterized (`rendering.raster`), everything else and the light is computed by rays
(`rendering.tracer`); both know the scene from the poses of a `View`. Pictures are shared out among threads,
cut into strips where they are too few; the native code lets go of Python's lock.

The first picture on a machine compiles this, some seconds; it stays in Warp's cache in the user's cache
folder (`WARP_CACHE_PATH`), which processes share safely.

Trap: transparency is not drawn. What is not fully transparent is opaque.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import gcd
from queue import SimpleQueue
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.sim.rendering.lens import Lens, blank
from simscaleai.sim.rendering.loading import DEVICE, TILE, array, constants, import_warp, meshes
from simscaleai.sim.rendering.shadow_maps import ShadowMaps
from simscaleai.sim.view import LOOKS, POSES, View

MAP_SIZES = (128, 1024)  # pixels of a side of a shadow map: twice those of a picture, within these


class WarpEngine:
    """Draws `n` simulations of `model` through `lenses` on `threads` threads; see the module docstring.

    Raises:
      UserError: Warp is not installed.
    """

    name = "warp"

    def __init__(
        self, model: mujoco.MjModel, lenses: Sequence[Lens], n: int, threads: int, samples: int
    ) -> None:
        warp = import_warp()
        from simscaleai.sim.rendering import raster, scene, tracer

        self._lenses, self._n, self._threads, self._samples = lenses, n, threads, samples
        self._kernels = raster.rasterize, tracer.trace
        self._pool: ThreadPoolExecutor | None = None
        self._owner = 0
        most = samples * max(max(lens.width, lens.height) for lens in lenses)
        self._maps = ShadowMaps(model, int(np.clip(2 * most, *MAP_SIZES)))
        with warp.ScopedDevice(DEVICE):
            self._scene = scene.Scene()
            self._set(constants(model) | meshes(model))
            self._rows = self._set_rows(model)
            self._map_views = self._set_maps(model)
            self._every = array(np.arange(n))
            self._none = warp.zeros((0, 0), dtype=int)
            self._drawn: set[int] = set()
            most = int(max(model.mesh_vertnum, default=0))
            self._scratch = [_scratch(scene.Scratch(), most) for _ in range(threads)]
            self._buffers = [self._make_buffers(model, lens, 1) for lens in lenses]
            if samples > 1:
                self._finer = [self._make_buffers(model, lens, samples) for lens in lenses]

    def draw(
        self,
        view: View,
        chosen: Sequence[int],
        depth: bool,
        segmentation: bool,
        rows: NDArray[np.intp] | None = None,
    ) -> list[dict[str, NDArray[Any]]]:
        """The pictures of the lenses `chosen`, {kind: (n, H, W, ...)} each; see `Renderer.render`."""
        for name, own in self._rows.items():
            given = view.poses.get(name, view.looks.get(name))
            if given is not None:
                own[...] = given.reshape(len(given), *own.shape[1:])
        out = [blank(self._lenses[i], self._n, depth, segmentation) for i in chosen]
        with import_warp().ScopedDevice(DEVICE):
            # Buffers keep the pictures of rows that are not drawn, once they were.
            which = self._every if rows is None or set(chosen) - self._drawn else array(rows)
            self._drawn |= set(chosen)
            self._draw_maps(which)
            for i, pictures in zip(chosen, out, strict=True):
                rgb, metres, geoms = self._trace(i, 1, which, coloured=self._samples == 1)
                if self._samples > 1:
                    rgb = self._trace(i, self._samples, which, True)[0]
                    rgb = _average(rgb, pictures["rgb"].shape[:3])
                for kind, seen in (("rgb", rgb), ("depth", metres), ("segmentation", geoms)):
                    if kind in pictures:
                        pictures[kind][...] = seen.reshape(pictures[kind].shape)
        return out

    def close(self) -> None:
        """End the threads; buffers go with the object."""
        if self._pool is not None and self._owner == os.getpid():
            self._pool.shutdown()
        self._pool = None

    def _draw_maps(self, rows: Any) -> None:
        """Draw the shadow maps of `rows`."""
        scene, size = self._scene, self._maps.size
        if not size:
            return
        for own, value in zip(self._map_views, self._maps.aim(self._rows), strict=True):
            own[...] = value
        views = scene.map_xpos, scene.map_xmat, scene.map_pixel
        for which in range(self._maps.count):
            outputs = [scene.map_nearness, self._none, self._none]
            self._rasterize(rows, [*views, which, self._maps.count, size, size], outputs)

    def _trace(self, i: int, finer: int, rows: Any, coloured: bool) -> list[NDArray[Any]]:
        """Fill the buffers of lens i, at `finer` times its size; return views of them."""
        lens = self._lenses[i]
        width, height = finer * lens.width, finer * lens.height
        pixels, rgb, depth, geoms, faces = (self._buffers if finer == 1 else self._finer)[i]
        views = self._scene.cam_xpos, self._scene.cam_xmat, pixels
        self._rasterize(rows, [*views, lens.camera_id, 1, width, height], [depth, geoms, faces])
        tiles = -(-width // TILE) * -(-height // TILE)
        camera = [lens.camera_id, width, height, _pixel(lens, finer), tiles, int(coloured)]

        def work(scratch: Any, first: int, count: int) -> None:
            inputs = [self._scene, scratch, rows, first, *camera]
            self._launch(1, count, inputs, [rgb, depth, geoms, faces])

        # Sky is quick and a table slow: more pieces than threads, for the one that is done first.
        self._share(work, len(rows) * tiles, 2 * self._threads)
        return [buffer.numpy() for buffer in (rgb, depth, geoms)]

    def _rasterize(self, rows: Any, views: list[Any], outputs: list[Any]) -> None:
        """Draw the meshes of `rows`; `views` and `outputs` are the last arguments of `raster.rasterize`.

        Pictures are cut into strips where there are few, and in no more than it takes to keep all threads at
        work: each strip computes anew where the corners of its meshes are.
        """
        height = views[-1]
        few = len(rows) < 4 * self._threads
        wanted = self._threads // gcd(len(rows), self._threads) if few else 1
        lines = -(-height // wanted)
        strips = -(-height // lines)

        def work(scratch: Any, first: int, count: int) -> None:
            inputs = [self._scene, scratch, rows, first, strips, lines, *views]
            self._launch(0, count, inputs, outputs)

        self._share(work, len(rows) * strips, self._threads)

    def _launch(self, kernel: int, count: int, inputs: list[Any], outputs: list[Any]) -> None:
        import_warp().launch(
            self._kernels[kernel], count, inputs=inputs, outputs=outputs, device=DEVICE
        )

    def _share(self, work: Callable[[Any, int, int], None], count: int, pieces: int) -> None:
        """Call work(scratch, first, how many) for all of `count`, in pieces, on several threads."""
        bounds = np.linspace(0, count, min(pieces, count) + 1).astype(int).tolist()
        if self._threads < 2 or len(bounds) < 3:
            work(self._scratch[0], 0, count)
            return
        for kernel in self._kernels:  # compiled once, before threads ask for it together
            kernel.module.load(DEVICE)
        # Threads do not survive a fork.
        if self._pool is None or self._owner != os.getpid():
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="render")
            self._owner = os.getpid()
        free = SimpleQueue[Any]()
        for scratch in self._scratch:
            free.put(scratch)

        def piece(first: int, end: int) -> None:
            scratch = free.get()
            work(scratch, first, end - first)
            free.put(scratch)

        list(self._pool.map(piece, bounds[:-1], bounds[1:]))

    def _set(self, values: dict[str, Any]) -> None:
        """Give the scene its constants: numbers as they are, arrays by copying them to Warp."""
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                value = array(value)
            setattr(self._scene, name, value)

    def _set_rows(self, model: mujoco.MjModel) -> dict[str, NDArray[Any]]:
        """Give the scene what may differ from row to row; return it, for writing."""
        data = mujoco.MjData(model)
        rows: dict[str, NDArray[Any]] = {}
        for name in (*POSES, *LOOKS):
            value = getattr(data if name in POSES else model, name)
            value = value.reshape(-1, 3, 3) if name.endswith("xmat") else value
            kind = np.int32 if value.dtype.kind in "bu" else np.float32
            own = array(np.repeat(value[None].astype(kind), self._n, 0), rows=True)
            setattr(self._scene, name, own)
            rows[name] = own.numpy()  # a view: writing is handing over
        return rows

    def _set_maps(self, model: mujoco.MjModel) -> list[NDArray[Any]]:
        """Give the scene its shadow maps; return what they look from, for writing."""
        count, size = self._maps.count, self._maps.size
        views = []
        for name, inner in (("map_xpos", (3,)), ("map_xmat", (3, 3)), ("map_pixel", ())):
            own = array(np.zeros((self._n, count, *inner)), rows=True)
            setattr(self._scene, name, own)
            views.append(own.numpy())
        self._scene.map_size = size
        self._scene.map_nearness = array(np.zeros((self._n * count, size * size)), rows=True)
        return views

    def _make_buffers(self, model: mujoco.MjModel, lens: Lens, finer: int) -> list[Any]:
        """A pixel's size at distance 1 (n, cameras), RGB, depth, geoms and faces (n, H * W, ...)."""
        warp = import_warp()
        pixel = _pixel(lens, finer)
        shape = (self._n, lens.width * lens.height * finer**2)
        return [
            array(np.full((self._n, model.ncam), pixel), rows=True),
            warp.zeros((*shape, 3), dtype=warp.uint8),
            warp.zeros(shape, dtype=float),
            warp.zeros(shape, dtype=int),
            warp.zeros(shape, dtype=int),
        ]


def _pixel(lens: Lens, finer: int) -> float:
    """A pixel's size at distance 1, of pictures `finer` times the lens's size."""
    return float(2 * np.tan(np.radians(lens.fov) / 2) / (finer * lens.height))


def _scratch(scratch: Any, vertices: int) -> Any:
    """`scratch` with its arrays, for meshes of up to so many vertices."""
    warp = import_warp()
    for name, kind in (("geom", int), ("distance", float)):
        setattr(scratch, name, warp.zeros(TILE * TILE, dtype=kind))
    for name in ("ray", "normal"):
        setattr(scratch, name, warp.zeros(TILE * TILE, dtype=warp.vec3))
    scratch.corner = warp.zeros(vertices, dtype=warp.vec3)
    scratch.spot = warp.zeros(vertices, dtype=warp.vec2)
    return scratch


def _average(rgb: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Pictures (n, s H * s W, 3) averaged to `shape` (n, H, W)."""
    n, height, width = shape
    finer = round((rgb.shape[1] / (height * width)) ** 0.5)
    blocks = rgb.reshape(n, height, finer, width, finer, 3)
    return (blocks.sum((2, 4), dtype=np.uint32) // finer**2).astype(np.uint8)
