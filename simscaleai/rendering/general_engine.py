"""Fallback engine for scenes that our own kernels cannot draw: the ray tracer of `mujoco_warp`.

It draws everything that MuJoCo compiles (height fields, flexes, textured primitives, ...) from the poses of a
`RenderState` and runs no physics. The simulations are divided among threads, each with buffers of its own;
the native code releases the GIL.

Trap: there is no transparency. A geom whose alpha is not 0 is drawn opaque.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace

import mujoco
import numpy as np

from simscaleai.array_types import Array, ArrayDict, EnvIds
from simscaleai.errors import UserError
from simscaleai.rendering.engine_settings import EngineSettings
from simscaleai.rendering.fork_safe_pool import ForkSafePool
from simscaleai.rendering.loading import DEVICE, import_warp, tell_compiling
from simscaleai.rendering.render_camera import RenderCamera, blank, model_with
from simscaleai.rendering.render_state import POSE_FIELDS, RenderState


class GeneralEngine:
    """Draws the simulations of `model` by the ray tracer of `mujoco_warp`; see the module docstring.

    Raises:
      UserError: mujoco-warp is not installed, or cannot draw the scene.
    """

    name = "warp"

    def __init__(self, model: mujoco.MjModel, settings: EngineSettings) -> None:
        cameras, n = settings.cameras, settings.n
        self._cameras = cameras
        model = model_with(model, cameras)
        warp, mujoco_warp = _import()
        with warp.ScopedDevice(DEVICE):
            try:
                device_model = mujoco_warp.put_model(model)
            except NotImplementedError as error:
                raise UserError(
                    f"The render engine 'warp' cannot draw this scene ({error}); use render_engine='gl'."
                ) from error
            # contiguous blocks of envs, one per thread
            bounds = np.linspace(0, n, min(n, settings.threads) + 1).astype(int).tolist()
            blocks = [slice(a, b) for a, b in itertools.pairwise(bounds)]
            self._blocks = [
                _EnvBlock(model, device_model, cameras, b, settings.samples) for b in blocks
            ]
        self._pool = ForkSafePool(len(blocks))

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
        warp, _ = _import()
        with warp.ScopedDevice(DEVICE):
            # The first draw compiles the kernel. Do it once, here, before threads ask for it at a time.
            uncompiled = [block for block in self._blocks if block.kernel is None]
            if uncompiled:
                tell_compiling(["wp_mujoco_warp*"])
            for block in uncompiled:
                block.reuse_kernel(self._blocks[0])
                block.draw(state, chosen, out)
            if len(uncompiled) == len(self._blocks):
                return out
            if len(self._blocks) == 1:
                self._blocks[0].draw(state, chosen, out)
            else:
                list(self._pool.executor().map(lambda b: b.draw(state, chosen, out), self._blocks))
        return out

    def close(self) -> None:
        """End the threads and release the buffers."""
        self._pool.close()
        self._blocks = []


class _EnvBlock:
    """Contiguous block of envs, drawn by one thread."""

    def __init__(
        self,
        model: mujoco.MjModel,
        device_model: object,
        cameras: Sequence[RenderCamera],
        envs: slice,
        samples: int,
    ) -> None:
        _, mujoco_warp = _import()
        self._envs, self._cameras = envs, cameras
        self._n = envs.stop - envs.start
        # a shallow copy: arrays are shared until `_visual` replaces one
        self._model = copy.copy(device_model)
        self._visuals: ArrayDict = {}
        self._context = mujoco_warp.create_render_context(
            model,
            self._n,
            [(camera.width, camera.height) for camera in cameras],
            render_rgb=True,
            render_depth=True,
            render_seg=True,
            cam_active=[camera.camera_id for camera in cameras],
            use_shadows=True,
            render_skybox=True,
            samples_per_pixel=samples,
        )
        self._data = _render_data(model, self._n)
        # NumPy views of the device's memory (a CPU): writing to them hands the poses over.
        self._poses = {name: getattr(self._data, name).numpy() for name in POSE_FIELDS}
        context = self._context
        flags = (context.render_rgb, context.render_depth, context.render_seg)
        self._flags = [f.numpy() for f in flags]  # (cameras,) bool each
        # where the pixels of each camera begin in the context's flat buffers
        self._starts = np.cumsum([0] + [camera.width * camera.height for camera in cameras])

    @property
    def kernel(self) -> object | None:
        """Compiled tracer; None before the first draw."""
        kernel: object | None = self._context._megakernel
        return kernel

    def reuse_kernel(self, other: _EnvBlock) -> None:
        """Take the compiled tracer of another block, if it has one."""
        self._context._megakernel = other.kernel

    def draw(self, state: RenderState, chosen: Sequence[int], out: list[ArrayDict]) -> None:
        """Draw the cameras `chosen` into this block's envs of `out`."""
        _, mujoco_warp = _import()
        for name, target in self._poses.items():
            target[...] = state.poses[name][self._envs].reshape(target.shape)
        for name, given in state.visuals.items():
            target = self._visual(name)
            # (1, ...): the same in all envs
            values = given if len(given) == 1 else given[self._envs]
            target[...] = values.reshape(len(values), *target.shape[1:])
        for flags, kind in zip(self._flags, ("rgb", "depth", "segmentation"), strict=True):
            flags[:] = False
            flags[list(chosen)] = kind in out[0]
        mujoco_warp.refit_bvh(self._model, self._data, self._context)
        mujoco_warp.render(self._model, self._data, self._context)
        self._copy_images(chosen, out)

    def _copy_images(self, chosen: Sequence[int], out: list[ArrayDict]) -> None:
        """Copy the context's buffers, (envs, pixels of all cameras), to images."""
        rgb = self._context.rgb_data.numpy()
        depth = self._context.depth_data.numpy()
        geoms = self._context.seg_data.numpy()
        for i, images in zip(chosen, out, strict=True):
            pixels = slice(self._starts[i], self._starts[i + 1])
            shape = (len(rgb), self._cameras[i].height, self._cameras[i].width)
            packed = np.ascontiguousarray(rgb[:, pixels]).view(np.uint8).reshape(*shape, 4)
            images["rgb"][self._envs] = packed[..., 2::-1]  # bytes are blue, green, red, alpha
            if "depth" in images:
                images["depth"][self._envs] = depth[:, pixels].reshape(shape)
            if "segmentation" in images:
                ids, kinds = np.moveaxis(geoms[:, pixels].reshape(*shape, 2), -1, 0)
                is_geom = kinds == mujoco.mjtObj.mjOBJ_GEOM
                images["segmentation"][self._envs] = np.where(is_geom, ids, -1)

    def _visual(self, name: str) -> Array:
        """Return this block's own (envs, ...) values of the model field `name`, made on first use."""
        if name not in self._visuals:
            warp, _ = _import()
            nominal = getattr(self._model, name)
            own = warp.zeros((self._n, *nominal.shape[1:]), dtype=nominal.dtype)
            setattr(self._model, name, own)
            self._visuals[name] = own.numpy()
        return self._visuals[name]


def _render_data(model: mujoco.MjModel, n: int) -> SimpleNamespace:
    """Return the fields of `mujoco_warp.Data` that its tracer reads; the rest of it is for physics."""
    warp, _ = _import()
    # object: (shape, type of its positions, type of its other field)
    fields = {
        "geom": ((n, model.ngeom), warp.vec3, warp.mat33),
        "cam": ((n, model.ncam), warp.vec3, warp.mat33),
        "light": ((n, model.nlight), warp.vec3, warp.vec3),
    }
    data = {"nworld": n, "flexvert_xpos": warp.zeros((n, model.nflexvert), dtype=warp.vec3)}
    for name in POSE_FIELDS:
        shape, position, other = fields[name.split("_")[0]]
        data[name] = warp.zeros(shape, dtype=position if name.endswith("xpos") else other)
    return SimpleNamespace(**data)


def _import() -> tuple[ModuleType, ModuleType]:
    """Import `warp` and `mujoco_warp`."""
    warp = import_warp()
    try:
        import mujoco_warp
    except ImportError as error:
        raise UserError(
            "This scene takes mujoco-warp to draw; install it with: pip install 'simscaleai[render]', or"
            " use render_engine='gl'."
        ) from error
    return warp, mujoco_warp
