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
def hit_face(scene: Scene, g: int, number: int, o: wp.vec3, d: wp.vec3):
    """Normal, smooth if the mesh is, and texture point where a ray meets face `number` of geom g."""
    face = scene.mesh_faces[scene.geom_face[g] + number]
    start = scene.geom_vert[g]
    a = scene.mesh_verts[start + face[0]] - o
    b = scene.mesh_verts[start + face[1]] - o
    c = scene.mesh_verts[start + face[2]] - o
    weights = wp.vec3(
        wp.dot(d, wp.cross(b, c)), wp.dot(d, wp.cross(c, a)), wp.dot(d, wp.cross(a, b))
    )
    weights = weights / (weights[0] + weights[1] + weights[2])
    flat = wp.normalize(wp.cross(b - a, c - a))
    face = scene.face_normals[scene.geom_face[g] + number]
    start = scene.geom_normal[g]
    n = smooth(scene, start + face[0], flat) * weights[0]
    n += smooth(scene, start + face[1], flat) * weights[1]
    n += smooth(scene, start + face[2], flat) * weights[2]
    uv = wp.vec2()
    first = scene.geom_texel[g]
    if first >= 0:
        face = scene.face_texels[scene.geom_face[g] + number]
        uv = scene.mesh_texels[first + face[0]] * weights[0]
        uv += scene.mesh_texels[first + face[1]] * weights[1]
        uv += scene.mesh_texels[first + face[2]] * weights[2]
    return n, uv
