"""Pictures by ray tracing on the CPU, with Warp: no OpenGL, no display, no system package.

The tracer (`rendering.tracer`) is given the poses of a `View`. Tiles of all pictures are shared out among
threads; the native code lets go of Python's lock.

The first picture on a machine compiles the tracer, some seconds; it stays in Warp's cache in the user's
cache folder (`WARP_CACHE_PATH`), which processes share safely.

Trap: transparency is not drawn. What is not fully transparent is opaque.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError
from simscaleai.sim.rendering.lens import Lens
from simscaleai.sim.view import LOOKS, POSES, View

DEVICE = "cpu"
TILE = 8
MAX_GEOMS = 64
GROUPS = 3  # geoms of groups 0, 1 and 2 are seen
_SKY = mujoco.mjtTexture.mjTEXTURE_SKYBOX
_PLANE, _MESH = mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_MESH
_KINDS = {
    _PLANE,
    _MESH,
    mujoco.mjtGeom.mjGEOM_SPHERE,
    mujoco.mjtGeom.mjGEOM_CAPSULE,
    mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    mujoco.mjtGeom.mjGEOM_CYLINDER,
    mujoco.mjtGeom.mjGEOM_BOX,
}
_LIGHTS = {
    mujoco.mjtLightType.mjLIGHT_SPOT,
    mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
    mujoco.mjtLightType.mjLIGHT_POINT,
}


def visible(model: mujoco.MjModel) -> NDArray[np.intp]:
    """The geoms that cameras can see."""
    return np.flatnonzero((model.geom_group >= 0) & (model.geom_group < GROUPS))


def can_draw(model: mujoco.MjModel) -> bool:
    """Whether the tracer knows everything in `model` that would be seen."""
    geoms = visible(model)
    if len(geoms) > MAX_GEOMS or model.nflex or model.nskin:
        return False
    return (
        all(_texture_known(model, g) for g in geoms)
        and {int(k) for k in model.geom_type[geoms]} <= {int(k) for k in _KINDS}
        and {int(k) for k in model.light_type} <= {int(k) for k in _LIGHTS}
        and not (model.cam_projection != mujoco.mjtProjection.mjPROJ_PERSPECTIVE).any()
        and model.tex_data is not None
    )


def _texture_known(model: mujoco.MjModel, g: int) -> bool:
    """Whether geom g has no texture, or one on a plane, or a mesh that says where it lies."""
    mat, mesh = model.geom_matid[g], model.geom_dataid[g]
    if mat < 0 or _textures(model)[mat] < 0 or model.geom_type[g] == _PLANE:
        return True
    if model.geom_type[g] != _MESH or model.mesh_texcoordadr[mesh] < 0:
        return False
    start = model.mesh_faceadr[mesh]
    return bool((model.mesh_facetexcoord[start : start + model.mesh_facenum[mesh]] >= 0).all())


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
        from simscaleai.sim.rendering import scene, tracer

        self._lenses, self._n, self._threads, self._samples = lenses, n, threads, samples
        self._kernel = tracer.trace
        self._meshes: list[Any] = []
        self._pool: ThreadPoolExecutor | None = None
        self._owner = 0
        with warp.ScopedDevice(DEVICE):
            self._scene = scene.Scene()
            self._set(_constants(model))
            self._set_meshes(model)
            self._rows = self._set_rows(model)
            self._every = _array(np.arange(n))
            self._drawn: set[int] = set()
            self._scratch = [self._make_scratch(scene.Scratch()) for _ in range(threads)]
            self._buffers = [self._make_buffers(lens, 1) for lens in lenses]
            if samples > 1:
                self._finer = [self._make_buffers(lens, samples) for lens in lenses]

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
        out = []
        with import_warp().ScopedDevice(DEVICE):
            for i in chosen:
                # Buffers keep the pictures of rows that are not drawn, once they were.
                which = self._every if rows is None or i not in self._drawn else _array(rows)
                rgb, metres, geoms = self._trace(i, 1, which, coloured=self._samples == 1)
                shape = (self._n, self._lenses[i].height, self._lenses[i].width)
                if self._samples > 1:
                    rgb = _average(self._trace(i, self._samples, which, True)[0], shape)
                self._drawn.add(i)
                pictures: dict[str, NDArray[Any]] = {"rgb": rgb.reshape(*shape, 3).copy()}
                if depth:
                    pictures["depth"] = metres.reshape(shape).copy()
                if segmentation:
                    pictures["segmentation"] = geoms.reshape(shape).copy()
                out.append(pictures)
        return out

    def close(self) -> None:
        """End the threads; buffers go with the object."""
        if self._pool is not None and self._owner == os.getpid():
            self._pool.shutdown()
        self._pool = None

    def _trace(self, i: int, finer: int, rows: Any, coloured: bool) -> list[NDArray[Any]]:
        """Fill the buffers of lens i, at `finer` times its size; return views of them."""
        lens = self._lenses[i]
        width, height = finer * lens.width, finer * lens.height
        buffers = (self._buffers if finer == 1 else self._finer)[i]
        tiles = len(rows) * -(-width // TILE) * -(-height // TILE)
        pixel = 2 * np.tan(np.radians(lens.fov) / 2) / height
        bounds = np.linspace(0, tiles, self._threads + 1).astype(int).tolist()

        def work(thread: int) -> None:
            first, last = bounds[thread], bounds[thread + 1]
            if first == last:
                return
            import_warp().launch(
                self._kernel,
                dim=last - first,
                inputs=[
                    self._scene,
                    self._scratch[thread],
                    rows,
                    first,
                    lens.camera_id,
                    width,
                    height,
                    pixel,
                    int(coloured),
                ],
                outputs=buffers,
                device=DEVICE,
            )

        if self._threads == 1:
            work(0)
        else:
            import_warp().load_module("simscaleai.sim.rendering.tracer", device=DEVICE)
            list(self._workers().map(work, range(self._threads)))
        return [buffer.numpy() for buffer in buffers]

    def _workers(self) -> ThreadPoolExecutor:
        # Threads do not survive a fork.
        if self._pool is None or self._owner != os.getpid():
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="render")
            self._owner = os.getpid()
        return self._pool

    def _set(self, values: dict[str, Any]) -> None:
        """Give the scene its constants: numbers as they are, arrays by copying them to Warp."""
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                value = _array(value)
            setattr(self._scene, name, value)

    def _set_meshes(self, model: mujoco.MjModel) -> None:
        warp = import_warp()
        ids = np.zeros(model.ngeom, np.uint64)
        middle, half = np.zeros((2, model.ngeom, 3), np.float32)
        face, normal, texel = np.zeros((3, model.ngeom), np.int32)
        texel[:] = -1
        made: dict[int, Any] = {}
        for g in visible(model):
            mesh = int(model.geom_dataid[g])
            if model.geom_type[g] != _MESH:
                continue
            start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
            points = model.mesh_vert[start : start + count]
            face[g], normal[g] = model.mesh_faceadr[mesh], model.mesh_normaladr[mesh]
            texel[g] = model.mesh_texcoordadr[mesh]
            if mesh not in made:
                faces = model.mesh_face[face[g] : face[g] + model.mesh_facenum[mesh]]
                made[mesh] = warp.Mesh(
                    _array(points),
                    warp.array(faces.ravel(), dtype=warp.int32),
                    bvh_constructor="sah",
                )
            ids[g] = made[mesh].id
            low, up = points.min(0), points.max(0)
            middle[g], half[g] = (low + up) / 2, (up - low) / 2 + 1e-6
        self._meshes = list(made.values())  # their ids do not keep them alive
        self._scene.geom_mesh = warp.array(ids, dtype=warp.uint64)
        self._set(
            {
                "geom_middle": middle,
                "geom_half": half,
                "geom_face": face,
                "geom_normal": normal,
                "geom_texel": texel,
            }
        )

    def _set_rows(self, model: mujoco.MjModel) -> dict[str, NDArray[Any]]:
        """Give the scene what may differ from row to row; return it, for writing."""
        data = mujoco.MjData(model)
        rows: dict[str, NDArray[Any]] = {}
        for name in (*POSES, *LOOKS):
            value = getattr(data if name in POSES else model, name)
            value = value.reshape(-1, 3, 3) if name.endswith("xmat") else value
            kind = np.int32 if value.dtype.kind in "bu" else np.float32
            array = _array(np.repeat(value[None].astype(kind), self._n, 0), rows=True)
            setattr(self._scene, name, array)
            rows[name] = array.numpy()  # a view: writing is handing over
        return rows

    def _make_scratch(self, scratch: Any) -> Any:
        warp = import_warp()
        for name, kind in (("geom", int), ("distance", float)):
            setattr(scratch, name, warp.zeros(TILE * TILE, dtype=kind))
        scratch.uv = warp.zeros(TILE * TILE, dtype=warp.vec2)
        for name in ("ray", "normal", "base", "colour"):
            setattr(scratch, name, warp.zeros(TILE * TILE, dtype=warp.vec3))
        return scratch

    def _make_buffers(self, lens: Lens, finer: int) -> list[Any]:
        warp = import_warp()
        shape = (self._n, lens.width * lens.height * finer**2)
        return [
            warp.zeros((*shape, 3), dtype=warp.uint8),
            warp.zeros(shape, dtype=float),
            warp.zeros(shape, dtype=int),
        ]


def _constants(model: mujoco.MjModel) -> dict[str, Any]:
    """What no row has of its own, under the names of `scene.Scene`."""
    head = model.vis.headlight
    on = float(bool(head.active))
    sky = np.flatnonzero(model.tex_type == _SKY)
    texels = [_texture(model, i) for i in range(model.ntex)]
    starts = np.cumsum([0] + [len(t.reshape(-1, 3)) for t in texels])[:-1]
    return {
        "visible": visible(model).astype(np.int32),
        "geom_type": model.geom_type,
        "geom_mat": model.geom_matid,
        "face_normals": model.mesh_facenormal,
        "mesh_normals": model.mesh_normal,
        "face_texels": model.mesh_facetexcoord,
        "mesh_texels": model.mesh_texcoord,
        "mat_texture": _textures(model),
        "mat_repeat": model.mat_texrepeat,
        "mat_uniform": model.mat_texuniform.astype(np.int32),
        "texels": np.concatenate([np.zeros((1, 3)), *(t.reshape(-1, 3) for t in texels)]),
        "texture_start": (starts + 1).astype(np.int32),
        "texture_size": np.array([t.shape[1::-1] for t in texels], np.int32).reshape(-1, 2),
        "sky": int(sky[0]) if len(sky) else -1,
        "light_type": model.light_type,
        "light_shadow": model.light_castshadow.astype(np.int32),
        "light_fading": model.light_attenuation,
        "light_cutoff": np.cos(np.radians(model.light_cutoff)),
        "light_exponent": model.light_exponent,
        "head_ambient": (head.ambient * on).tolist(),
        "head_diffuse": (head.diffuse * on).tolist(),
        "head_specular": (head.specular * on).tolist(),
        "far": float(model.vis.map.zfar * model.stat.extent),
    }


def _textures(model: mujoco.MjModel) -> NDArray[np.int32]:
    """The texture of each material, -1 for none."""
    textures: NDArray[np.int32] = model.mat_texid[:, mujoco.mjtTextureRole.mjTEXROLE_RGB]
    return textures


def _texture(model: mujoco.MjModel, i: int) -> NDArray[np.float32]:
    """Texture i, (rows, columns, 3) in [0, 1]."""
    height, width, channels = model.tex_height[i], model.tex_width[i], model.tex_nchannel[i]
    start = model.tex_adr[i]
    data = model.tex_data[start : start + height * width * channels]
    return np.repeat(data.reshape(height, width, channels)[..., :3], 3 if channels < 3 else 1, -1)[
        ..., :3
    ].astype(np.float32) / np.float32(255)


def _array(value: NDArray[Any], rows: bool = False) -> Any:
    """A Warp array of numbers, vectors or matrices: as many axes as a scene's array has are indices."""
    warp = import_warp()
    value = np.ascontiguousarray(value, np.int32 if value.dtype.kind in "iu" else np.float32)
    inner = value.shape[1 + rows :]
    integer = value.dtype == np.int32
    kinds = {
        (): int if integer else float,
        (2,): warp.vec2i if integer else warp.vec2,
        (3,): warp.vec3i if integer else warp.vec3,
        (4,): warp.vec4,
        (3, 3): warp.mat33,
    }
    return warp.array(value, dtype=kinds[inner], ndim=1 + rows)


def _average(rgb: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Pictures (n, s H * s W, 3) averaged to `shape` (n, H, W)."""
    n, height, width = shape
    finer = round((rgb.shape[1] / (height * width)) ** 0.5)
    blocks = rgb.reshape(n, height, finer, width, finer, 3)
    return (blocks.sum((2, 4), dtype=np.uint32) // finer**2).astype(np.uint8)


def import_warp() -> Any:
    """The module `warp`, quiet."""
    try:
        import warp
    except ImportError as error:
        raise UserError(
            "The render engine 'warp' needs mujoco-warp; install it with: pip install"
            " 'simscaleai[render]', or use render_engine='gl'."
        ) from error
    if warp.config.log_level < warp.LOG_ERROR:
        warp.config.log_level = warp.LOG_ERROR
        with _no_stderr():  # it tells those who have no GPU that they have none
            warp.init()
    return warp


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Drop what native code writes to the error stream."""
    try:
        kept = os.dup(2)
    except OSError:  # closed: there is nothing to drop
        yield
        return
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
