"""Intersect the rays of a tile with one geom of the scene."""

import warp as wp

from simscaleai.rendering.kernels import ray_shapes
from simscaleai.rendering.kernels.render_scene import (
    BOX,
    CAPSULE,
    CYLINDER,
    ELLIPSOID,
    PLANE,
    SPHERE,
    RenderScene,
)
from simscaleai.rendering.kernels.tile_types import PIXELS, TileFloat, TileVec3


@wp.func
def intersect_geom(scene: RenderScene, env_id: int, g: int, origin: TileVec3, direction: TileVec3):
    """Return distances, -1 for a miss, and normals in the geom's frame; for every type but meshes.

    `origin` and unit `direction` are in the world frame.
    """
    to_local = wp.transpose(scene.geom_xmat[env_id, g])
    geom_pos = scene.geom_xpos[env_id, g]
    o = TileVec3()
    d = TileVec3()
    for i in range(wp.static(PIXELS)):
        o[:, i] = to_local @ (origin[:, i] - geom_pos)
        d[:, i] = to_local @ direction[:, i]
    # One branch per tile, not per ray: all rays of a tile are tested against the same geom.
    kind = scene.geom_type[g]
    size = scene.geom_size[env_id, g]
    if kind == wp.static(BOX):
        t, n = ray_shapes.ray_box(o, d, size)
        return t, n
    if kind == wp.static(PLANE):
        t, n = ray_shapes.ray_plane(o, d, size)
        return t, n
    if kind == wp.static(SPHERE):
        t, n = ray_shapes.ray_ellipsoid(o, d, wp.vec3(size[0], size[0], size[0]))
        return t, n
    if kind == wp.static(CAPSULE):
        t, n = ray_shapes.ray_capsule(o, d, size[0], size[1])
        return t, n
    if kind == wp.static(CYLINDER):
        t, n = ray_shapes.ray_cylinder(o, d, size[0], size[1])
        return t, n
    if kind == wp.static(ELLIPSOID):
        t, n = ray_shapes.ray_ellipsoid(o, d, size)
        return t, n
    return TileFloat(-1.0), TileVec3()
