"""What the ray tracer takes from a MuJoCo model, and whether that is all there is to see in it."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError, printable

DEVICE = "cpu"
TILE = 8  # pixels of a side of what is drawn together
PIXELS = TILE * TILE  # as many pixels, or faces, are worked on at once
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


def constants(model: mujoco.MjModel) -> dict[str, Any]:
    """What no row has of its own, under the names of `scene.Scene`."""
    seen = visible(model)
    is_mesh = model.geom_type[seen] == _MESH
    head = model.vis.headlight
    on = float(bool(head.active))
    casts = model.light_castshadow.astype(bool)
    sky = np.flatnonzero(model.tex_type == _SKY)
    texels = [_texture(model, i) for i in range(model.ntex)]
    starts = np.cumsum([0] + [len(t.reshape(-1, 3)) for t in texels])[:-1]
    return {
        "meshes": seen[is_mesh],
        "simple": seen[~is_mesh],
        "geom_type": model.geom_type,
        "geom_mat": model.geom_matid,
        "face_normals": model.mesh_facenormal,
        "mesh_normals": model.mesh_normal,
        "mesh_verts": model.mesh_vert,
        "mesh_faces": model.mesh_face,
        "face_planes": _planes(model),
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
        "light_caster": np.where(casts, np.cumsum(casts) - 1, -1),
        "light_fading": model.light_attenuation,
        "light_cutoff": np.cos(np.radians(model.light_cutoff)),
        "light_exponent": model.light_exponent,
        "head_ambient": (head.ambient * on).tolist(),
        "head_diffuse": (head.diffuse * on).tolist(),
        "head_specular": (head.specular * on).tolist(),
        "map_light": np.flatnonzero(casts),
        "stat_extent": float(model.stat.extent),
        "far": float(model.vis.map.zfar * model.stat.extent),
    }


def _planes(model: mujoco.MjModel) -> NDArray[np.float64]:
    """Normals of the faces of meshes, of any length, and their products with points of the faces.

    For each 64 faces they lie side by side: (k, 4, 64), with zeros behind the last.
    """
    mesh = np.repeat(np.arange(model.nmesh), model.mesh_facenum)
    corners = model.mesh_vert[model.mesh_face + model.mesh_vertadr[mesh][:, None]].astype(
        np.float64
    )
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    planes = np.column_stack([normals, (normals * corners[:, 0]).sum(1)])
    planes = np.pad(planes, ((0, -len(planes) % PIXELS), (0, 0)))
    return planes.reshape(-1, PIXELS, 4).swapaxes(1, 2)


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


def array(value: NDArray[Any], rows: bool = False) -> Any:
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
        (4, PIXELS): warp.types.matrix((4, PIXELS), float),
    }
    return warp.array(value, dtype=kinds[inner], ndim=1 + rows)


def meshes(model: mujoco.MjModel) -> dict[str, NDArray[Any]]:
    """Where the mesh of each geom is, and the box around it, under the names of `scene.Scene`."""
    middle, half = np.zeros((2, model.ngeom, 3), np.float32)
    places = {
        "geom_vert": model.mesh_vertadr,
        "geom_face": model.mesh_faceadr,
        "geom_faces": model.mesh_facenum,
        "geom_normal": model.mesh_normaladr,
        "geom_texel": model.mesh_texcoordadr,
    }
    out = {name: np.full(model.ngeom, -1, np.int32) for name in places}
    for g in np.flatnonzero(model.geom_type == _MESH):
        mesh = model.geom_dataid[g]
        for name, of_mesh in places.items():
            out[name][g] = of_mesh[mesh]
        first = out["geom_vert"][g]
        points = model.mesh_vert[first : first + model.mesh_vertnum[mesh]]
        low, up = points.min(0), points.max(0)
        middle[g], half[g] = (low + up) / 2, (up - low) / 2 + 1e-6
    return {**out, "geom_middle": middle, "geom_half": half}


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
            problem = _initialize(warp)
        if problem:
            warnings.warn(
                f"{problem}: the renderer is compiled again in every run, which takes up to a minute; set"
                " WARP_CACHE_PATH to a folder that can be written to.",
                stacklevel=2,
            )
    return warp


def _initialize(warp: Any) -> str:
    """Start Warp, compiling into a temporary folder where its own cannot be written to; say why."""
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
    os.environ["WARP_CACHE_PATH"] = instead  # of the processes that this one starts, too
    warp.config.kernel_cache_dir = instead
    warp.init()  # where it had begun, nothing
    with contextlib.suppress(OSError):  # what is there may be all that is needed
        shutil.copytree(place, warp.config.kernel_cache_dir, dirs_exist_ok=True)
    return problem


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
