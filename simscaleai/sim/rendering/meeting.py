"""Where a ray meets a geom of the scene, in the geom's own frame."""

import warp as wp

from simscaleai.sim.rendering import shapes
from simscaleai.sim.rendering.scene import BOX, CAPSULE, CYLINDER, ELLIPSOID, PLANE, SPHERE, Scene

wp.set_module_options({"enable_backward": False, "fast_math": True})


@wp.func
def hit_simple(kind: int, size: wp.vec3, o: wp.vec3, d: wp.vec3):
    """Distance and normal, in the geom's frame, for all but meshes."""
    t = float(-1.0)
    n = wp.vec3()
    if kind == wp.static(BOX):
        t, n = shapes.hit_box(o, d, size)
    elif kind == wp.static(PLANE):
        t, n = shapes.hit_plane(o, d, size)
    elif kind == wp.static(SPHERE):
        t, n = shapes.hit_ellipsoid(o, d, wp.vec3(size[0], size[0], size[0]))
    elif kind == wp.static(CAPSULE):
        t, n = shapes.hit_capsule(o, d, size[0], size[1])
    elif kind == wp.static(CYLINDER):
        t, n = shapes.hit_cylinder(o, d, size[0], size[1])
    elif kind == wp.static(ELLIPSOID):
        t, n = shapes.hit_ellipsoid(o, d, size)
    return t, n


@wp.func
def smooth(scene: Scene, corner: int, flat: wp.vec3):
    """A vertex's normal, or the face's where the two differ by more than 37 degrees, as in MuJoCo."""
    n = scene.mesh_normals[corner]
    if wp.dot(n, flat) < 0.8:
        return flat
    return n


@wp.func
def hit_mesh(scene: Scene, g: int, o: wp.vec3, d: wp.vec3, best: float):
    """Distance, smooth normal and texture point of the nearest face before `best`, in the geom's frame."""
    enter, leave = shapes.enters_box(o - scene.geom_middle[g], d, scene.geom_half[g])
    if enter > leave or enter > best:
        return -1.0, wp.vec3(), wp.vec2()
    q = wp.mesh_query_ray(scene.geom_mesh[g], o, d, wp.min(best, leave + 1.0e-3))
    if not q.result or wp.dot(q.normal, d) > 0.0:
        return -1.0, wp.vec3(), wp.vec2()
    face = scene.face_normals[scene.geom_face[g] + q.face]
    start = scene.geom_normal[g]
    n = smooth(scene, start + face[0], q.normal) * q.u
    n += smooth(scene, start + face[1], q.normal) * q.v
    n += smooth(scene, start + face[2], q.normal) * (1.0 - q.u - q.v)
    uv = wp.vec2()
    first = scene.geom_texel[g]
    if first >= 0:
        face = scene.face_texels[scene.geom_face[g] + q.face]
        uv = scene.mesh_texels[first + face[0]] * q.u + scene.mesh_texels[first + face[1]] * q.v
        uv += scene.mesh_texels[first + face[2]] * (1.0 - q.u - q.v)
    return q.t, wp.normalize(n), uv
