"""What the ray tracer knows of a scene, as Warp structures, and how it looks up colours and bounds."""

import warp as wp

from simscaleai.rendering.kernels.lanes import PIXELS

PLANE, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX, MESH = 0, 2, 3, 4, 5, 6, 7  # mjtGeom
SPOT, DIRECTIONAL = 0, 1  # mjtLightType

# Of 64 faces: their normals, and the products of these with the faces' points.
Planes = wp.types.matrix(shape=(4, PIXELS), dtype=wp.float32)


@wp.struct
class Scene:
    """What all tiles share. Arrays of rows: (n, ...)."""

    meshes: wp.array(dtype=int)  # the geoms to be seen: meshes, and all others
    simple: wp.array(dtype=int)
    geom_type: wp.array(dtype=int)
    geom_mat: wp.array(dtype=int)
    geom_middle: wp.array(dtype=wp.vec3)  # of the bounding box of a mesh
    geom_half: wp.array(dtype=wp.vec3)
    geom_vert: wp.array(dtype=int)  # the first of its mesh
    geom_face: wp.array(dtype=int)  # likewise, and how many
    geom_faces: wp.array(dtype=int)
    geom_normal: wp.array(dtype=int)
    mesh_verts: wp.array(dtype=wp.vec3)
    mesh_faces: wp.array(dtype=wp.vec3i)
    face_planes: wp.array(dtype=Planes)
    face_normals: wp.array(dtype=wp.vec3i)
    mesh_normals: wp.array(dtype=wp.vec3)
    geom_texel: wp.array(dtype=int)
    face_texels: wp.array(dtype=wp.vec3i)
    mesh_texels: wp.array(dtype=wp.vec2)
    mat_texture: wp.array(dtype=int)
    mat_repeat: wp.array(dtype=wp.vec2)
    mat_uniform: wp.array(dtype=int)
    texels: wp.array(dtype=wp.vec3)
    texture_start: wp.array(dtype=int)
    texture_size: wp.array(dtype=wp.vec2i)
    sky: int
    light_type: wp.array(dtype=int)
    light_caster: wp.array(dtype=int)  # its number among those that cast shadows, -1 for none
    light_fading: wp.array(dtype=wp.vec3)
    light_cutoff: wp.array(dtype=float)  # cosine
    light_exponent: wp.array(dtype=float)
    head_ambient: wp.vec3
    head_diffuse: wp.vec3
    head_specular: wp.vec3
    far: float
    stat_extent: float  # of the whole scene, m
    map_light: wp.array(dtype=int)  # the lights that cast shadows
    map_size: int  # of the shadow maps, which are square; 0 for none
    map_xpos: wp.array2d(dtype=wp.vec3)
    map_xmat: wp.array2d(dtype=wp.mat33)
    map_pixel: wp.array2d(dtype=float)  # size at distance 1
    map_nearness: wp.array2d(dtype=float)  # 1 / depth of the nearest face of a mesh
    geom_xpos: wp.array2d(dtype=wp.vec3)
    geom_xmat: wp.array2d(dtype=wp.mat33)
    cam_xpos: wp.array2d(dtype=wp.vec3)
    cam_xmat: wp.array2d(dtype=wp.mat33)
    light_xpos: wp.array2d(dtype=wp.vec3)
    light_xdir: wp.array2d(dtype=wp.vec3)
    geom_rgba: wp.array2d(dtype=wp.vec4)
    geom_size: wp.array2d(dtype=wp.vec3)
    mat_emission: wp.array2d(dtype=float)
    mat_rgba: wp.array2d(dtype=wp.vec4)
    mat_shininess: wp.array2d(dtype=float)
    mat_specular: wp.array2d(dtype=float)
    light_active: wp.array2d(dtype=int)
    light_ambient: wp.array2d(dtype=wp.vec3)
    light_diffuse: wp.array2d(dtype=wp.vec3)
    light_specular: wp.array2d(dtype=wp.vec3)


@wp.func
def colour_of(scene: Scene, row: int, g: int):
    """A geom's own colour, unless it is the default and there is a material."""
    own = scene.geom_rgba[row, g]
    mat = scene.geom_mat[g]
    if mat >= 0 and own[0] == 0.5 and own[1] == 0.5 and own[2] == 0.5 and own[3] == 1.0:
        return scene.mat_rgba[row, mat]
    return own


@wp.func
def bound(scene: Scene, row: int, g: int):
    """Middle and radius of a sphere around a geom (not a plane)."""
    kind = scene.geom_type[g]
    size = scene.geom_size[row, g]
    middle = scene.geom_xpos[row, g]
    radius = size[0]
    if kind == wp.static(MESH):
        middle = middle + scene.geom_xmat[row, g] @ scene.geom_middle[g]
        radius = wp.length(scene.geom_half[g])
    elif kind == wp.static(BOX):
        radius = wp.length(size)
    elif kind == wp.static(CAPSULE):
        radius = size[0] + size[1]
    elif kind == wp.static(CYLINDER):
        radius = wp.sqrt(size[0] * size[0] + size[1] * size[1])
    elif kind == wp.static(ELLIPSOID):
        radius = wp.max(wp.max(size[0], size[1]), size[2])
    return middle, radius


@wp.func
def extent(scene: Scene, row: int, g: int, d: wp.vec3):
    """How far a geom (not a plane) reaches from its middle in the unit direction d."""
    kind = scene.geom_type[g]
    size = scene.geom_size[row, g]
    local = wp.transpose(scene.geom_xmat[row, g]) @ d
    reach = size[0]
    if kind == wp.static(MESH):
        reach = wp.dot(scene.geom_half[g], wp.abs(local))
    elif kind == wp.static(BOX):
        reach = wp.dot(size, wp.abs(local))
    elif kind == wp.static(CAPSULE):
        reach = size[0] + size[1] * wp.abs(local[2])
    elif kind == wp.static(CYLINDER):
        reach = size[0] * wp.sqrt(wp.max(0.0, 1.0 - local[2] * local[2])) + size[1] * wp.abs(
            local[2]
        )
    elif kind == wp.static(ELLIPSOID):
        reach = wp.length(wp.cw_mul(size, local))
    return reach
