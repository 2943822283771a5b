"""Scenes that our own tracer does not know (height fields, textured meshes, ...), by that of `mujoco_warp`.

It is given the poses of a `RenderState` and runs no physics. Each thread draws a part of the simulations into
buffers of its own; the native code releases the GIL.

Trap: transparency is not drawn. What is not fully transparent is opaque.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError
from simscaleai.rendering.loading import DEVICE, import_warp
from simscaleai.rendering.render_camera import RenderCamera, blank, model_with
from simscaleai.rendering.render_state import POSE_FIELDS, RenderState


class GeneralEngine:
    """Draws `n` simulations of `model` through `lenses` on `threads` threads; see the module docstring.

    Raises:
      UserError: mujoco-warp is not installed, or cannot draw the scene.
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
        self._lenses = lenses
        model = model_with(model, lenses)
        warp, mujoco_warp = _import()
        with warp.ScopedDevice(DEVICE):
            try:
                shared = mujoco_warp.put_model(model)
            except NotImplementedError as error:
                raise UserError(
                    f"The render engine 'warp' cannot draw this scene ({error}); use render_engine='gl'."
                ) from error
            bounds = np.linspace(0, n, min(n, threads) + 1).astype(int).tolist()
            rows = [slice(a, b) for a, b in itertools.pairwise(bounds)]
            self._parts = [_Part(model, shared, lenses, r, samples) for r in rows]
        self._pool: ThreadPoolExecutor | None = None
        self._owner = 0

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
        warp, _ = _import()
        with warp.ScopedDevice(DEVICE):
            # The first draw of all compiles; that is done once, before threads ask for it together.
            waiting = [part for part in self._parts if part.kernel is None]
            for part in waiting:
                part.share(self._parts[0])
                part.draw(view, chosen, out)
            if len(waiting) == len(self._parts):
                return out
            if len(self._parts) == 1:
                self._parts[0].draw(view, chosen, out)
            else:
                list(self._threads().map(lambda part: part.draw(view, chosen, out), self._parts))
        return out

    def close(self) -> None:
        """End the threads; buffers go with the object."""
        if self._pool is not None and self._owner == os.getpid():
            self._pool.shutdown()
        self._pool = None
        self._parts = []

    def _threads(self) -> ThreadPoolExecutor:
        # Threads do not survive a fork.
        if self._pool is None or self._owner != os.getpid():
            self._pool = ThreadPoolExecutor(len(self._parts), thread_name_prefix="render")
            self._owner = os.getpid()
        return self._pool


class _Part:
    """The simulations `rows`, drawn by one thread."""

    def __init__(
        self,
        model: mujoco.MjModel,
        shared: Any,
        lenses: Sequence[RenderCamera],
        rows: slice,
        samples: int,
    ) -> None:
        warp, mujoco_warp = _import()
        self._rows, self._lenses = rows, lenses
        n = rows.stop - rows.start
        self._model = copy.copy(shared)
        self._looks: dict[str, NDArray[Any]] = {}
        self._context = mujoco_warp.create_render_context(
            model,
            n,
            [(lens.width, lens.height) for lens in lenses],
            render_rgb=True,
            render_depth=True,
            render_seg=True,
            cam_active=[lens.camera_id for lens in lenses],
            use_shadows=True,
            render_skybox=True,
            samples_per_pixel=samples,
        )
        # All that the tracer reads of mujoco_warp.Data, which has much more for physics.
        shapes = {
            "geom": ((n, model.ngeom), warp.vec3, warp.mat33),
            "cam": ((n, model.ncam), warp.vec3, warp.mat33),
            "light": ((n, model.nlight), warp.vec3, warp.vec3),
        }
        data = {"nworld": n, "flexvert_xpos": warp.zeros((n, model.nflexvert), dtype=warp.vec3)}
        for name in POSE_FIELDS:
            shape, *kinds = shapes[name.split("_")[0]]
            data[name] = warp.zeros(shape, dtype=kinds[0 if name.endswith("xpos") else 1])
        self._data = SimpleNamespace(**data)
        self._poses = {
            name: data[name].numpy() for name in POSE_FIELDS
        }  # views: writing is handing over
        self._flags = [
            flags.numpy()
            for flags in (
                self._context.render_rgb,
                self._context.render_depth,
                self._context.render_seg,
            )
        ]
        self._starts = np.cumsum([0] + [lens.width * lens.height for lens in lenses])

    @property
    def kernel(self) -> Any:
        return self._context._megakernel

    def share(self, other: _Part) -> None:
        """Take over the compiled tracer of another part, if there is one."""
        self._context._megakernel = other.kernel

    def draw(
        self, view: RenderState, chosen: Sequence[int], out: list[dict[str, NDArray[Any]]]
    ) -> None:
        """Draw the lenses `chosen` into this part's rows of `out`."""
        _, mujoco_warp = _import()
        for name, values in self._poses.items():
            values[...] = view.poses[name][self._rows].reshape(values.shape)
        for name, given in view.looks.items():
            values = self._look(name)
            rows = given if len(given) == 1 else given[self._rows]
            values[...] = rows.reshape(len(rows), *values.shape[1:])
        for flags, kind in zip(self._flags, ("rgb", "depth", "segmentation"), strict=True):
            flags[:] = False
            flags[list(chosen)] = kind in out[0]
        mujoco_warp.refit_bvh(self._model, self._data, self._context)
        mujoco_warp.render(self._model, self._data, self._context)
        rgb = self._context.rgb_data.numpy()
        depth = self._context.depth_data.numpy()
        geoms = self._context.seg_data.numpy()
        for i, pictures in zip(chosen, out, strict=True):
            pixels = slice(self._starts[i], self._starts[i + 1])
            shape = (len(rgb), self._lenses[i].height, self._lenses[i].width)
            packed = np.ascontiguousarray(rgb[:, pixels]).view(np.uint8).reshape(*shape, 4)
            pictures["rgb"][self._rows] = packed[..., 2::-1]  # stored as blue, green, red, alpha
            if "depth" in pictures:
                pictures["depth"][self._rows] = depth[:, pixels].reshape(shape)
            if "segmentation" in pictures:
                ids, kinds = np.moveaxis(geoms[:, pixels].reshape(*shape, 2), -1, 0)
                pictures["segmentation"][self._rows] = np.where(
                    kinds == mujoco.mjtObj.mjOBJ_GEOM, ids, -1
                )

    def _look(self, name: str) -> NDArray[Any]:
        """This part's own values of the model's field `name`, made on first use."""
        if name not in self._looks:
            warp, _ = _import()
            nominal = getattr(self._model, name)
            own = warp.zeros((self._data.nworld, *nominal.shape[1:]), dtype=nominal.dtype)
            setattr(self._model, name, own)
            self._looks[name] = own.numpy()
        return self._looks[name]


def _import() -> tuple[Any, Any]:
    """The modules `warp` and `mujoco_warp`."""
    warp = import_warp()
    try:
        import mujoco_warp
    except ImportError as error:
        raise UserError(
            "This scene takes mujoco-warp to draw; install it with: pip install 'simscaleai[render]', or"
            " use render_engine='gl'."
        ) from error
    return warp, mujoco_warp
