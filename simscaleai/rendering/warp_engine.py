"""Pictures on the CPU, with Warp: no OpenGL, no display, no system package.

Meshes are rasterized (`kernels.raster`), everything else and the light is computed by rays
(`kernels.tracer`); both know the scene from the poses of a `RenderState`. Images are divided among threads,
and cut into strips where there are fewer images than threads; the native code releases the GIL.

The first picture on a machine compiles this, some seconds; it stays in Warp's cache in the user's cache
folder (`WARP_CACHE_PATH`), which processes share safely.

Trap: transparency is not drawn. What is not fully transparent is opaque.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.rendering.loading import (
    DEVICE,
    TILE,
    array,
    constants,
    import_warp,
    meshes,
)
from simscaleai.rendering.render_camera import RenderCamera, blank
from simscaleai.rendering.render_state import POSE_FIELDS, VISUAL_FIELDS, RenderState

MAP_SIZES = (128, 1024)  # pixels of a side of a shadow map: twice those of a picture, within these
LINKS = 4  # places in bins for each face of the meshes


@dataclass(frozen=True)
class Job:
    """A kernel to run, and how many pictures of what height it draws for each row.

    `inputs` are those behind the rows and strips.
    """

    kernel: int
    pictures: int
    height: int
    inputs: list[Any]
    outputs: list[Any]


class WarpEngine:
    """Draws `n` simulations of `model` through `lenses` on `threads` threads; see the module docstring.

    Raises:
      UserError: Warp is not installed.
    """

    name = "warp"

    def __init__(
        self,
        model: mujoco.MjModel,
        lenses: Sequence[RenderCamera],
        n: int,
        threads: int,
        samples: int,
    ) -> None:
        warp = import_warp()
        from simscaleai.rendering.kernels import scene, shadow_maps, tracer

        self._lenses, self._n, self._threads, self._samples = lenses, n, threads, samples
        self._sizes = sorted({1, samples})  # of pictures, in those of their lens
        self._kernels = shadow_maps.draw_maps, tracer.draw
        self._pool: ThreadPoolExecutor | None = None
        self._owner = 0
        with warp.ScopedDevice(DEVICE):
            self._scene = scene.Scene()
            self._set(constants(model) | meshes(model))
            self._rows = self._set_rows(model)
            most = samples * max(max(lens.width, lens.height) for lens in lenses)
            self._set_maps(int(np.clip(2 * most, *MAP_SIZES)))
            self._every = array(np.arange(n))
            self._drawn: set[int] = set()
            self._buffers = {
                (i, finer): self._make_buffers(lens, finer)
                for i, lens in enumerate(lenses)
                for finer in self._sizes
            }
            sides = [(k * lenses[i].width, k * lenses[i].height) for i, k in self._buffers]
            sides.append((self._scene.map_size, self._scene.map_size))
            tiles = max(_tiles(width) * _tiles(height) for width, height in sides)
            faces = int(self._scene.geom_faces.numpy()[self._scene.meshes.numpy()].sum())
            self._scratch = [_scratch(faces, tiles) for _ in range(threads)]

    def draw(
        self,
        view: RenderState,
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
            scene = self._scene
            if scene.map_size:
                lights = scene.map_light.shape[0]
                self._run(which, [Job(0, lights, scene.map_size, [], [])])
            self._run(which, [self._picture(i, finer) for i in chosen for finer in self._sizes])
            self._drawn |= set(chosen)
        for i, pictures in zip(chosen, out, strict=True):
            _, metres, geoms = (buffer.numpy() for buffer in self._buffers[i, 1])
            rgb = self._buffers[i, self._samples][0].numpy()
            if self._samples > 1:
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

    def _picture(self, i: int, finer: int) -> Job:
        """To fill the buffers of lens i, at `finer` times its size."""
        lens = self._lenses[i]
        height = finer * lens.height
        pixel = 2 * np.tan(np.radians(lens.fov) / 2) / height  # its size at distance 1
        middle = import_warp().vec2(*(finer * x for x in lens.middle))
        inputs = [lens.camera_id, finer * lens.width, height, float(pixel), middle]
        return Job(1, 1, height, inputs, self._buffers[i, finer])

    def _run(self, rows: Any, jobs: list[Job]) -> None:
        """Do jobs for `rows`, shared out among the threads.

        Pictures are cut into strips where there are few, and not into many: each looks at all meshes anew.
        """
        pictures = len(rows) * sum(job.pictures for job in jobs)
        few = self._threads > 1 and 0 < pictures < 4 * self._threads
        strips = -(-self._threads // pictures) if few else 1
        pieces = deque[tuple[Job, int, int, int]]()
        for job in jobs:
            cut = min(strips, _tiles(job.height))
            count = len(rows) * job.pictures * cut
            bounds = np.linspace(0, count, min(2 * self._threads, count) + 1).astype(int).tolist()
            pieces += [(job, cut, *ends) for ends in pairwise(bounds)]

        def work(scratch: Any) -> None:
            while True:
                try:
                    job, cut, first, end = pieces.popleft()
                except IndexError:
                    return
                import_warp().launch(
                    self._kernels[job.kernel],
                    end - first,
                    inputs=[self._scene, scratch, rows, first, cut, *job.inputs],
                    outputs=job.outputs,
                    device=DEVICE,
                )

        helpers = [self._threads_besides().submit(work, s) for s in self._scratch[1 : len(pieces)]]
        try:
            work(self._scratch[0])
        finally:  # an error here must not leave threads at work on what is drawn next
            pieces.clear()
            wait(helpers)
        for helper in helpers:
            helper.result()

    def _threads_besides(self) -> ThreadPoolExecutor:
        """The threads beside the one that calls."""
        if self._pool is None or self._owner != os.getpid():  # threads do not survive a fork
            for kernel in self._kernels:  # compiled once, before threads ask for it together
                kernel.module.load(DEVICE, block_dim=1)  # as launches on a CPU do
            self._pool = ThreadPoolExecutor(self._threads - 1, thread_name_prefix="render")
            self._owner = os.getpid()
        return self._pool

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
        for name in (*POSE_FIELDS, *VISUAL_FIELDS):
            value = getattr(data if name in POSE_FIELDS else model, name)
            value = value.reshape(-1, 3, 3) if name.endswith("xmat") else value
            kind = np.int32 if value.dtype.kind in "bu" else np.float32
            own = array(np.repeat(value[None].astype(kind), self._n, 0), rows=True)
            setattr(self._scene, name, own)
            rows[name] = own.numpy()  # a view: writing is handing over
        return rows

    def _set_maps(self, size: int) -> None:
        """Give the scene its shadow maps, of that size, if there are meshes to cast shadows."""
        scene = self._scene
        lights = scene.map_light.shape[0] if scene.meshes.shape[0] else 0
        scene.map_size = size if lights else 0
        for name, inner in (("map_xpos", (3,)), ("map_xmat", (3, 3)), ("map_pixel", ())):
            setattr(scene, name, array(np.zeros((self._n, lights, *inner)), rows=True))
        scene.map_nearness = array(np.zeros((self._n * lights, size * size)), rows=True)

    def _make_buffers(self, lens: RenderCamera, finer: int) -> list[Any]:
        """RGB, depth and geoms (n, H * W, ...), empty where a picture of that size is not for them."""
        warp = import_warp()
        pixels = lens.width * lens.height * finer**2
        rgb = self._n if finer == self._samples else 0
        others = self._n if finer == 1 else 0
        return [
            warp.zeros((rgb, pixels, 3), dtype=warp.uint8),
            warp.zeros((others, pixels), dtype=float),
            warp.zeros((others, pixels), dtype=int),
        ]


def _tiles(pixels: int) -> int:
    """How many tiles it takes for so many pixels of a side."""
    return -(-pixels // TILE)


def _scratch(faces: int, tiles: int) -> Any:
    """Room for what one thread draws, of that many faces of meshes and tiles of a picture."""
    warp = import_warp()
    from simscaleai.rendering.kernels.raster import Face, Scratch

    scratch = Scratch()
    scratch.faces = warp.zeros(faces, dtype=Face)
    scratch.head = warp.zeros(tiles + 1, dtype=int)
    scratch.link_face = warp.zeros(LINKS * faces, dtype=int)
    scratch.link_next = warp.zeros(LINKS * faces, dtype=int)
    return scratch


def _average(rgb: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Pictures (n, s H * s W, 3) averaged to `shape` (n, H, W)."""
    n, height, width = shape
    finer = round((rgb.shape[1] / (height * width)) ** 0.5)
    blocks = rgb.reshape(n, height, finer, width, finer, 3)
    return (blocks.sum((2, 4), dtype=np.uint32) // finer**2).astype(np.uint8)
