"""The scene on the device, and what kernels ask of a geom: its color, bounding sphere and support."""

import warp as wp

from simscaleai.rendering.kernels.tile_types import PIXELS

PLANE, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX, MESH = 0, 2, 3, 4, 5, 6, 7  # mjtGeom
SPOT, DIRECTIONAL = 0, 1  # mjtLightType

# Planes of 64 faces side by side: normal (3) and offset = normal . point (1).
FacePlanes = wp.types.matrix(shape=(4, PIXELS), dtype=wp.float32)


@wp.struct
class RenderScene:
    """What all tiles read: constants of the model, then per env what may differ, (n, ...).

    `mesh_verts`, `mesh_faces`, ... hold all meshes one after the other, as in MjModel; `geom_vert`,
    `geom_face`, ... say where the mesh of a geom begins.
    """

    # geoms
    mesh_geoms: wp.array(dtype=int)  # ids of visible geoms that are meshes (rasterized)
    primitives: wp.array(dtype=int)  # ids of all other visible geoms (ray traced)
    geom_type: wp.array(dtype=int)
    geom_mat: wp.array(dtype=int)  # material, -1 for none
    geom_center: wp.array(dtype=wp.vec3)  # bounding box of a mesh, in the geom's frame, m
    geom_half_size: wp.array(dtype=wp.vec3)
    geom_vert: wp.array(dtype=int)  # first vertex of its mesh
    geom_face: wp.array(dtype=int)  # first face
    geom_faces: wp.array(dtype=int)  # number of faces
    geom_normal: wp.array(dtype=int)  # first normal
    geom_texcoord: wp.array(dtype=int)  # first texture coordinate, -1 for none

    # meshes
    mesh_verts: wp.array(dtype=wp.vec3)
    mesh_faces: wp.array(dtype=wp.vec3i)  # vertices of each face
    mesh_normals: wp.array(dtype=wp.vec3)
    mesh_texcoords: wp.array(dtype=wp.vec2)
    face_planes: wp.array(dtype=FacePlanes)  # in blocks of 64 faces, for back-face culling
    face_normals: wp.array(dtype=wp.vec3i)  # normals of each face's corners
    face_texcoords: wp.array(dtype=wp.vec3i)

    # materials and textures
    mat_texture: wp.array(dtype=int)  # -1 for none
    mat_texrepeat: wp.array(dtype=wp.vec2)
    mat_texuniform: wp.array(dtype=int)
    texels: wp.array(dtype=wp.vec3)  # of all textures, RGB in [0, 1]
    texture_start: wp.array(dtype=int)
    texture_size: wp.array(dtype=wp.vec2i)  # width, height
    sky: int  # texture, -1 for none

    # lights
    light_type: wp.array(dtype=int)
    light_map: wp.array(dtype=int)  # its shadow map, -1 for a light that casts no shadows
    light_attenuation: wp.array(dtype=wp.vec3)  # constant, linear, quadratic
    light_cutoff: wp.array(dtype=float)  # cosine of the half angle of a spot light
    light_exponent: wp.array(dtype=float)
    headlight_ambient: wp.vec3
    headlight_diffuse: wp.vec3
    headlight_specular: wp.vec3
    far: float  # far plane, m
    stat_extent: float  # radius of the whole scene, m

    # shadow maps, written by `render_shadow_maps`
    map_lights: wp.array(dtype=int)  # the light of each map
    map_size: int  # pixels of a side, 0 for no maps
    map_xpos: wp.array2d(dtype=wp.vec3)  # pose of the map's camera
    map_xmat: wp.array2d(dtype=wp.mat33)
    map_pixel_size: wp.array2d(dtype=float)  # at distance 1
    map_inv_depth: wp.array2d(dtype=float)  # (n * maps, size * size): 1 / depth of the nearest face

    # per env: POSE_FIELDS and VISUAL_FIELDS
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
def geom_color(scene: RenderScene, env_id: int, g: int):
    """Return RGBA of geom g: its own unless that is MuJoCo's default gray and there is a material."""
    own = scene.geom_rgba[env_id, g]
    mat = scene.geom_mat[g]
    if mat >= 0 and own[0] == 0.5 and own[1] == 0.5 and own[2] == 0.5 and own[3] == 1.0:
        return scene.mat_rgba[env_id, mat]
    return own


@wp.func
def bounding_sphere(scene: RenderScene, env_id: int, g: int):
    """Return center (world frame) and radius of a sphere around geom g, which is not a plane."""
    kind = scene.geom_type[g]
    size = scene.geom_size[env_id, g]
    center = scene.geom_xpos[env_id, g]
    radius = size[0]
    if kind == wp.static(MESH):
        # the bounding box of a mesh need not be centered in the geom's frame
        center = center + scene.geom_xmat[env_id, g] @ scene.geom_center[g]
        radius = wp.length(scene.geom_half_size[g])
    elif kind == wp.static(BOX):
        radius = wp.length(size)
    elif kind == wp.static(CAPSULE):
        radius = size[0] + size[1]
    elif kind == wp.static(CYLINDER):
        radius = wp.sqrt(size[0] * size[0] + size[1] * size[1])
    elif kind == wp.static(ELLIPSOID):
        radius = wp.max(wp.max(size[0], size[1]), size[2])
    return center, radius


@wp.func
def support(scene: RenderScene, env_id: int, g: int, d: wp.vec3):
    """Return how far geom g, which is not a plane, reaches from its center in the unit direction d.

    This is the support function of convex geometry, with the bounding box in place of a mesh. It bounds a
    geom more tightly than its bounding sphere.
    """
    kind = scene.geom_type[g]
    size = scene.geom_size[env_id, g]
    local = wp.transpose(scene.geom_xmat[env_id, g]) @ d
    reach = size[0]
    if kind == wp.static(MESH):
        reach = wp.dot(scene.geom_half_size[g], wp.abs(local))
    elif kind == wp.static(BOX):
        reach = wp.dot(size, wp.abs(local))
    elif kind == wp.static(CAPSULE):
        reach = size[0] + size[1] * wp.abs(local[2])
    elif kind == wp.static(CYLINDER):
        # disc of radius size[0] across the axis, segment of half length size[1] along it
        reach = size[0] * wp.sqrt(wp.max(0.0, 1.0 - local[2] * local[2])) + size[1] * wp.abs(
            local[2]
        )
    elif kind == wp.static(ELLIPSOID):
        reach = wp.length(wp.cw_mul(size, local))
    return reach
