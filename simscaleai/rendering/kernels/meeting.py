"""Where the rays of a tile meet a geom of the scene."""

import warp as wp

from simscaleai.rendering.kernels import shapes
from simscaleai.rendering.kernels.lanes import PIXELS, Lanes, Points
from simscaleai.rendering.kernels.scene import (
    BOX,
    CAPSULE,
    CYLINDER,
    ELLIPSOID,
    PLANE,
    SPHERE,
    Scene,
)


@wp.func
def hit(scene: Scene, row: int, g: int, origin: Points, direction: Points):
    """Distances, -1 for a miss, and normals in the geom's own frame, for all but meshes."""
    back = wp.transpose(scene.geom_xmat[row, g])
    place = scene.geom_xpos[row, g]
    o = Points()
    d = Points()
    for i in range(wp.static(PIXELS)):
        o[:, i] = back @ (origin[:, i] - place)
        d[:, i] = back @ direction[:, i]
    kind = scene.geom_type[g]
    size = scene.geom_size[row, g]
    if kind == wp.static(BOX):
        t, n = shapes.hit_box(o, d, size)
        return t, n
    if kind == wp.static(PLANE):
        t, n = shapes.hit_plane(o, d, size)
        return t, n
    if kind == wp.static(SPHERE):
        t, n = shapes.hit_ellipsoid(o, d, wp.vec3(size[0], size[0], size[0]))
        return t, n
    if kind == wp.static(CAPSULE):
        t, n = shapes.hit_capsule(o, d, size[0], size[1])
        return t, n
    if kind == wp.static(CYLINDER):
        t, n = shapes.hit_cylinder(o, d, size[0], size[1])
        return t, n
    if kind == wp.static(ELLIPSOID):
        t, n = shapes.hit_ellipsoid(o, d, size)
        return t, n
    return Lanes(-1.0), Points()
