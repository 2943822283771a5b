"""Load a MuJoCo model into the arrays of `kernels.render_scene`, and start Warp.

`can_draw` tells whether the kernels support everything that is visible in a model.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import Array, ArrayDict, FloatArray
from simscaleai.errors import UserError, printable

DEVICE = "cpu"
COMPILE_SECONDS = 15  # of all our kernels, on one core
TILE = 8  # pixels of a side of a tile
PIXELS = TILE * TILE  # pixels, or faces, that are processed together
MAX_GEOMS = 64  # length of the array in which a tile lists the geoms that it may show
GROUPS = 3  # geoms of groups 0, 1 and 2 are visible, as in MuJoCo's viewer
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


class DeviceArray(Protocol):
    """Array of Warp."""

    shape: tuple[int, ...]

    def numpy(self) -> Array:
        """Return a NumPy view; on a CPU, host and device memory are the same."""


def visible(model: mujoco.MjModel) -> NDArray[np.intp]:
    """Return the ids of the geoms that cameras can see."""
    return np.flatnonzero((model.geom_group >= 0) & (model.geom_group < GROUPS))


def can_draw(model: mujoco.MjModel) -> bool:
    """Return whether the kernels support every geom, light, camera and texture of `model`."""
    geoms = visible(model)
    if len(geoms) > MAX_GEOMS or model.nflex or model.nskin:
        return False
    return (
        all(_can_texture(model, g) for g in geoms)
        and {int(k) for k in model.geom_type[geoms]} <= {int(k) for k in _KINDS}
        and {int(k) for k in model.light_type} <= {int(k) for k in _LIGHTS}
        and not (model.cam_projection != mujoco.mjtProjection.mjPROJ_PERSPECTIVE).any()
        and model.tex_data is not None
    )


def _can_texture(model: mujoco.MjModel, g: int) -> bool:
    """Return whether geom g has no texture, or is a plane or a mesh with texture coordinates."""
    mat, mesh = model.geom_matid[g], model.geom_dataid[g]
    if mat < 0 or _material_textures(model)[mat] < 0 or model.geom_type[g] == _PLANE:
        return True
    if model.geom_type[g] != _MESH or model.mesh_texcoordadr[mesh] < 0:
        return False
    start = model.mesh_faceadr[mesh]
    return bool((model.mesh_facetexcoord[start : start + model.mesh_facenum[mesh]] >= 0).all())


def scene_constants(model: mujoco.MjModel) -> dict[str, object]:
    """Return what is the same in all envs, {field of `RenderScene`: value}."""
    geoms = visible(model)
    is_mesh = model.geom_type[geoms] == _MESH
    head = model.vis.headlight
    on = float(bool(head.active))  # an inactive headlight has no color
    casts = model.light_castshadow.astype(bool)
    sky = np.flatnonzero(model.tex_type == _SKY)
    # All textures are concatenated to (texels, 3), behind one unused texel: an array may not be empty.
    texels = [_texture(model, i) for i in range(model.ntex)]
    starts = np.cumsum([0] + [len(t.reshape(-1, 3)) for t in texels])[:-1]
    return {
        "mesh_geoms": geoms[is_mesh],
        "primitives": geoms[~is_mesh],
        "geom_type": model.geom_type,
        "geom_mat": model.geom_matid,
        "face_normals": model.mesh_facenormal,
        "mesh_normals": model.mesh_normal,
        "mesh_verts": model.mesh_vert,
        "mesh_faces": model.mesh_face,
        "face_planes": _face_planes(model),
        "face_texcoords": model.mesh_facetexcoord,
        "mesh_texcoords": model.mesh_texcoord,
        "mat_texture": _material_textures(model),
        "mat_texrepeat": model.mat_texrepeat,
        "mat_texuniform": model.mat_texuniform.astype(np.int32),
        "texels": np.concatenate([np.zeros((1, 3)), *(t.reshape(-1, 3) for t in texels)]),
        "texture_start": (starts + 1).astype(np.int32),
        "texture_size": np.array([t.shape[1::-1] for t in texels], np.int32).reshape(-1, 2),
        "sky": int(sky[0]) if len(sky) else -1,
        "light_type": model.light_type,
        "light_map": np.where(casts, np.cumsum(casts) - 1, -1),
        "light_attenuation": model.light_attenuation,
        "light_cutoff": np.cos(np.radians(model.light_cutoff)),
        "light_exponent": model.light_exponent,
        "headlight_ambient": (head.ambient * on).tolist(),
        "headlight_diffuse": (head.diffuse * on).tolist(),
        "headlight_specular": (head.specular * on).tolist(),
        "map_lights": np.flatnonzero(casts),
        "stat_extent": float(model.stat.extent),
        "far": float(model.vis.map.zfar * model.stat.extent),
    }


def _face_planes(model: mujoco.MjModel) -> FloatArray:
    """Return the planes of all mesh faces in blocks of 64: (blocks, 4, 64), zeros behind the last face.

    A plane is its normal, of any length, and its offset = normal . (a point of the face).
    """
    mesh = np.repeat(np.arange(model.nmesh), model.mesh_facenum)  # (faces,) the mesh of each face
    # (faces, 3 corners, xyz); vertex numbers count from the first of the mesh
    corners = model.mesh_vert[model.mesh_face + model.mesh_vertadr[mesh][:, None]].astype(
        np.float64
    )
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    planes = np.column_stack([normals, (normals * corners[:, 0]).sum(1)])  # (faces, 4)
    planes = np.pad(planes, ((0, -len(planes) % PIXELS), (0, 0)))
    return planes.reshape(-1, PIXELS, 4).swapaxes(1, 2)


def _material_textures(model: mujoco.MjModel) -> NDArray[np.int32]:
    """Return the color texture of each material, -1 for none."""
    textures: NDArray[np.int32] = model.mat_texid[:, mujoco.mjtTextureRole.mjTEXROLE_RGB]
    return textures


def _texture(model: mujoco.MjModel, i: int) -> NDArray[np.float32]:
    """Return texture i, (H, W, 3) in [0, 1]."""
    height, width, channels = model.tex_height[i], model.tex_width[i], model.tex_nchannel[i]
    start = model.tex_adr[i]
    data = model.tex_data[start : start + height * width * channels]
    pixels = data.reshape(height, width, channels)[..., :3]
    if channels < 3:  # grayscale
        pixels = np.repeat(pixels[..., :1], 3, -1)
    return pixels.astype(np.float32) / np.float32(255)


def device_array(value: Array, per_env: bool = False) -> DeviceArray:
    """Copy an array to the device.

    The first axis (with `per_env`, the first two) becomes the axis of the Warp array. The other axes become
    its element type: numbers, vectors or matrices.
    """
    warp = import_warp()
    value = np.ascontiguousarray(value, np.int32 if value.dtype.kind in "iu" else np.float32)
    inner = value.shape[1 + per_env :]
    integer = value.dtype == np.int32
    dtypes = {
        (): int if integer else float,
        (2,): warp.vec2i if integer else warp.vec2,
        (3,): warp.vec3i if integer else warp.vec3,
        (4,): warp.vec4,
        (3, 3): warp.mat33,
        (4, PIXELS): warp.types.matrix((4, PIXELS), float),
    }
    array: DeviceArray = warp.array(value, dtype=dtypes[inner], ndim=1 + per_env)
    return array


def mesh_layout(model: mujoco.MjModel) -> ArrayDict:
    """Return offsets and bounding box of each geom's mesh, {field of `RenderScene`: (ngeom, ...)}."""
    center, half_size = np.zeros((2, model.ngeom, 3), np.float32)
    of_meshes = {
        "geom_vert": model.mesh_vertadr,
        "geom_face": model.mesh_faceadr,
        "geom_faces": model.mesh_facenum,
        "geom_normal": model.mesh_normaladr,
        "geom_texcoord": model.mesh_texcoordadr,
    }
    out = {name: np.full(model.ngeom, -1, np.int32) for name in of_meshes}
    for g in np.flatnonzero(model.geom_type == _MESH):
        mesh = model.geom_dataid[g]
        for name, values in of_meshes.items():
            out[name][g] = values[mesh]
        first = out["geom_vert"][g]
        points = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
        low, up = points.min(0), points.max(0)
        # widened by 1 um, so that rounding culls no face on the box
        center[g], half_size[g] = (low + up) / 2, (up - low) / 2 + 1e-6
    return {**out, "geom_center": center, "geom_half_size": half_size}


def import_warp() -> ModuleType:
    """Import `warp`, start it silently, and return it.

    Raises:
      UserError: it is not installed.
    """
    try:
        import warp
    except ImportError as error:
        raise UserError(
            "The render engine 'warp' needs mujoco-warp; install it with: pip install"
            " 'simscaleai[render]', or use render_engine='gl'."
        ) from error
    if warp.config.log_level < warp.LOG_ERROR:
        warp.config.log_level = warp.LOG_ERROR
        with _no_stderr():  # native code warns that there is no GPU
            problem = _initialize(warp)
        if problem:
            warnings.warn(
                f"{problem}: the renderer is compiled again in every run, which takes up to a minute; set"
                " WARP_CACHE_PATH to a folder that can be written to.",
                stacklevel=2,
            )
    return warp


def _initialize(warp: ModuleType) -> str:
    """Start Warp; return "", or the problem if it needs a temporary kernel cache.

    The temporary cache replaces a cache folder that cannot be written to.
    """
    try:
        warp.init()
        folder = Path(warp.config.kernel_cache_dir)
        with tempfile.NamedTemporaryFile(dir=folder):
            return ""
    except OSError as error:
        place = warp.config.kernel_cache_dir or "in the user's cache folder"
        problem = printable(f"Warp's kernel cache {place} cannot be written to ({error.strerror})")
    instead = tempfile.mkdtemp(prefix="simscale-kernels-")
    atexit.register(shutil.rmtree, instead, ignore_errors=True)
    os.environ["WARP_CACHE_PATH"] = instead  # child processes inherit it
    warp.config.kernel_cache_dir = instead
    warp.init()  # without effect if the first call succeeded
    with contextlib.suppress(OSError):  # reuse kernels that the read-only cache has
        shutil.copytree(place, warp.config.kernel_cache_dir, dirs_exist_ok=True)
    return problem


def tell_compiling(folders: Iterable[str]) -> None:
    """Print on stderr that kernels are about to be compiled, unless Warp's cache has all of `folders`.

    Otherwise the first image of a newcomer is a quarter of a minute of silence. Worker processes say nothing.
    """
    cache = Path(import_warp().config.kernel_cache_dir)
    if multiprocessing.parent_process() is None and not all(any(cache.glob(f)) for f in folders):
        print(
            f"Compiling the renderer: about {COMPILE_SECONDS} s, once for each version (kept in {cache}).",
            file=sys.stderr,
            flush=True,
        )


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Discard what native code writes to the error stream."""
    try:
        saved = os.dup(2)
    except OSError:  # closed: nothing can be written
        yield
        return
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
