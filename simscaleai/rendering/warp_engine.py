"""Render engine for the CPU, in Warp: it needs no OpenGL, display or system package.

Meshes are rasterized (`kernels.raster`); all other geoms, lights and shadows are ray traced
(`kernels.render_tiles`). Threads share the images. With few images, each image is divided into bands of
tiles. The native code releases the GIL.

The first image on a machine compiles the kernels, which takes some seconds. Warp caches them in the user's
cache folder (`WARP_CACHE_PATH`), which several processes can share.

Trap: there is no transparency. A geom whose alpha is not 0 is drawn opaque.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from itertools import pairwise

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import Array, ArrayDict, EnvIds
from simscaleai.rendering.engine_settings import EngineSettings
from simscaleai.rendering.fork_safe_pool import ForkSafePool
from simscaleai.rendering.loading import (
    DEVICE,
    TILE,
    DeviceArray,
    device_array,
    import_warp,
    mesh_layout,
    scene_constants,
    tell_compiling,
)
from simscaleai.rendering.render_camera import RenderCamera, blank
from simscaleai.rendering.render_state import POSE_FIELDS, VISUAL_FIELDS, RenderState

MAP_SIZES = (
    128,
    1024,
)  # limits of a shadow map's side, pixels; between them, twice that of the images
LINKS = 4  # links in `Scratch` for each face of the meshes: a face covers few tiles


@dataclass(frozen=True)
class Job:
    """Launch of a kernel for all envs.

    Attributes:
      kernel: index in `WarpEngine._kernels`.
      images: number of images that it draws per env.
      height: of these images, pixels.
      inputs, outputs: arguments of the kernel after scene, scratch memory, envs and bands.
    """

    kernel: int
    images: int
    height: int
    inputs: Sequence[object]
    outputs: Sequence[object]


class WarpEngine:
    """Draws the simulations of `model` by our own kernels; see the module docstring.

    Raises:
      UserError: Warp is not installed.
    """

    name = "warp"

    def __init__(self, model: mujoco.MjModel, settings: EngineSettings) -> None:
        warp = import_warp()
        from simscaleai.rendering.kernels.render_scene import RenderScene
        from simscaleai.rendering.kernels.render_tiles import render_tiles
        from simscaleai.rendering.kernels.shadow_maps import render_shadow_maps

        self._cameras, self._n = settings.cameras, settings.n
        self._threads, self._samples = settings.threads, settings.samples
        # RGB is drawn at `samples` times the image's size and averaged; depth and segmentation cannot be
        # averaged and are drawn at the image's size.
        self._scales = sorted({1, self._samples})
        self._kernels = render_shadow_maps, render_tiles
        self._loaded = False
        self._other_threads = ForkSafePool(self._threads - 1)  # the calling thread draws as well
        with warp.ScopedDevice(DEVICE):
            self._scene = RenderScene()
            self._set_constants(scene_constants(model) | mesh_layout(model))
            self._per_env = self._set_per_env(model)
            largest = self._samples * max(max(c.width, c.height) for c in self._cameras)
            self._set_maps(int(np.clip(2 * largest, *MAP_SIZES)))
            self._all_envs = device_array(np.arange(self._n))
            self._drawn: set[int] = set()
            self._buffers = {
                (i, scale): self._make_buffers(camera, scale)
                for i, camera in enumerate(self._cameras)
                for scale in self._scales
            }
            cameras = self._cameras
            sides = [(k * cameras[i].width, k * cameras[i].height) for i, k in self._buffers]
            sides.append((self._scene.map_size, self._scene.map_size))
            tiles = max(_tiles(width) * _tiles(height) for width, height in sides)
            faces = int(self._scene.geom_faces.numpy()[self._scene.mesh_geoms.numpy()].sum())
            self._scratch = [_make_scratch(faces, tiles) for _ in range(self._threads)]

    def draw(
        self,
        state: RenderState,
        chosen: Sequence[int],
        depth: bool,
        segmentation: bool,
        env_ids: EnvIds | None = None,
    ) -> list[ArrayDict]:
        """Draw the cameras with indices `chosen`: {kind: (n, H, W, ...)} of each; see `Renderer.render`."""
        for name, target in self._per_env.items():
            given = state.poses.get(name, state.visuals.get(name))
            if given is not None:
                target[...] = given.reshape(len(given), *target.shape[1:])
        out = [blank(self._cameras[i], self._n, depth, segmentation) for i in chosen]
        with import_warp().ScopedDevice(DEVICE):
            # Buffers keep the images of envs that are not drawn now; cameras without images draw all envs.
            all_envs = env_ids is None or bool(set(chosen) - self._drawn)
            envs = self._all_envs if all_envs or env_ids is None else device_array(env_ids)
            # Shadow maps first: all cameras read them.
            if self._scene.map_size:
                maps = self._scene.map_lights.shape[0]
                self._run(envs, [Job(0, maps, self._scene.map_size, [], [])])
            self._run(envs, [self._job(i, scale) for i in chosen for scale in self._scales])
            self._drawn |= set(chosen)
        for i, images in zip(chosen, out, strict=True):
            _, meters, geoms = (buffer.numpy() for buffer in self._buffers[i, 1])
            rgb = self._buffers[i, self._samples][0].numpy()
            if self._samples > 1:
                rgb = _average(rgb, images["rgb"].shape[:3])
            for kind, values in (("rgb", rgb), ("depth", meters), ("segmentation", geoms)):
                if kind in images:
                    images[kind][...] = values.reshape(images[kind].shape)
        return out

    def close(self) -> None:
        """End the threads; the buffers are freed with the object."""
        self._other_threads.close()

    def _job(self, i: int, scale: int) -> Job:
        """Return the job that fills the buffers of camera i at `scale` times its size."""
        camera = self._cameras[i]
        height = scale * camera.height
        pixel_size = 2 * np.tan(np.radians(camera.fov) / 2) / height  # at distance 1
        center = import_warp().vec2(*(scale * x for x in camera.principal_point))
        inputs = [camera.camera_id, scale * camera.width, height, float(pixel_size), center]
        return Job(1, 1, height, inputs, self._buffers[i, scale])

    def _run(self, envs: DeviceArray, jobs: list[Job]) -> None:
        """Run jobs for `envs` on all threads.

        A few images are divided into bands, so that every thread has work. Many images are not, since each
        band has to bin the faces of all meshes.
        """
        images = envs.shape[0] * sum(job.images for job in jobs)
        few = self._threads > 1 and 0 < images < 4 * self._threads
        wanted = -(-self._threads // images) if few else 1
        launches = deque[tuple[Job, int, int, int]]()  # (job, bands of an image, first, end)
        for job in jobs:
            bands = min(wanted, _tiles(job.height))
            count = envs.shape[0] * job.images * bands
            # two launches per thread: a thread that finishes early takes another one
            bounds = np.linspace(0, count, min(2 * self._threads, count) + 1).astype(int).tolist()
            launches += [(job, bands, *ends) for ends in pairwise(bounds)]

        def work(scratch: object) -> None:
            while True:
                # popleft is atomic, so that the threads need no lock
                try:
                    job, bands, first, end = launches.popleft()
                except IndexError:
                    return
                import_warp().launch(
                    self._kernels[job.kernel],
                    end - first,
                    inputs=[self._scene, scratch, envs, first, bands, *job.inputs],
                    outputs=job.outputs,
                    device=DEVICE,
                )

        self._load_kernels()
        others = []
        if len(launches) > 1 and self._threads > 1:
            executor = self._other_threads.executor()
            others = [executor.submit(work, s) for s in self._scratch[1 : len(launches)]]
        try:
            work(self._scratch[0])
        finally:  # after an error no thread may still write to the buffers
            launches.clear()
            wait(others)
        for other in others:
            other.result()

    def _load_kernels(self) -> None:
        """Compile the kernels before several threads ask for them at the same time."""
        if self._loaded:
            return
        block_dim = 1  # of launches on a CPU
        modules = [kernel.module for kernel in self._kernels]
        # the folders that the kernels have in the cache
        tell_compiling([module.get_module_identifier(block_dim) for module in modules])
        for module in modules:
            module.load(DEVICE, block_dim=block_dim)
        self._loaded = True

    def _set_constants(self, values: Mapping[str, object]) -> None:
        """Set constants of the scene; arrays are copied to the device."""
        for name, value in values.items():
            on_device = device_array(value) if isinstance(value, np.ndarray) else value
            setattr(self._scene, name, on_device)

    def _set_per_env(self, model: mujoco.MjModel) -> ArrayDict:
        """Allocate the fields that may differ between envs; return writable views of them, (n, ...)."""
        data = mujoco.MjData(model)
        views: ArrayDict = {}
        for name in (*POSE_FIELDS, *VISUAL_FIELDS):
            value = getattr(data if name in POSE_FIELDS else model, name)
            value = value.reshape(-1, 3, 3) if name.endswith("xmat") else value
            dtype = np.int32 if value.dtype.kind in "bu" else np.float32
            array = device_array(np.repeat(value[None].astype(dtype), self._n, 0), per_env=True)
            setattr(self._scene, name, array)
            views[name] = array.numpy()
        return views

    def _set_maps(self, size: int) -> None:
        """Allocate shadow maps of size x size pixels, if there are meshes to cast shadows."""
        scene = self._scene
        maps = scene.map_lights.shape[0] if scene.mesh_geoms.shape[0] else 0
        scene.map_size = size if maps else 0
        for name, inner in (("map_xpos", (3,)), ("map_xmat", (3, 3)), ("map_pixel_size", ())):
            setattr(scene, name, device_array(np.zeros((self._n, maps, *inner)), per_env=True))
        scene.map_inv_depth = device_array(np.zeros((self._n * maps, size * size)), per_env=True)

    def _make_buffers(self, camera: RenderCamera, scale: int) -> list[DeviceArray]:
        """Return buffers of RGB (n, H W, 3), depth and geom ids (n, H W); empty if not drawn at `scale`."""
        warp = import_warp()
        pixels = camera.width * camera.height * scale**2
        rgb = self._n if scale == self._samples else 0
        others = self._n if scale == 1 else 0
        return [
            warp.zeros((rgb, pixels, 3), dtype=warp.uint8),
            warp.zeros((others, pixels), dtype=float),
            warp.zeros((others, pixels), dtype=int),
        ]


def _tiles(pixels: int) -> int:
    """Return the number of tiles along a side of `pixels` pixels."""
    return -(-pixels // TILE)


def _make_scratch(faces: int, tiles: int) -> object:
    """Return the scratch memory of one thread, for images with up to `faces` faces and `tiles` tiles."""
    warp = import_warp()
    from simscaleai.rendering.kernels.raster import Face, Scratch

    scratch = Scratch()
    scratch.faces = warp.zeros(faces, dtype=Face)
    scratch.head = warp.zeros(tiles + 1, dtype=int)
    scratch.link_face = warp.zeros(LINKS * faces, dtype=int)
    scratch.link_next = warp.zeros(LINKS * faces, dtype=int)
    return scratch


def _average(rgb: Array, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return images (n, H, W, 3) of `shape` (n, H, W), averaged from s H x s W pixels, (n, s H s W, 3)."""
    n, height, width = shape
    scale = round((rgb.shape[1] / (height * width)) ** 0.5)
    blocks = rgb.reshape(n, height, scale, width, scale, 3)
    return (blocks.sum((2, 4), dtype=np.uint32) // scale**2).astype(np.uint8)
