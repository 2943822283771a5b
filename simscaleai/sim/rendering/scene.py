"""What the ray tracer knows of a scene, as Warp structures, and how it looks up colours and bounds."""

import warp as wp

wp.set_module_options({"enable_backward": False, "fast_math": True})

PLANE, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX, MESH = 0, 2, 3, 4, 5, 6, 7  # mjtGeom


@wp.struct
class Scene:
    """What all tiles share. Arrays of rows: (n, ...)."""

    visible: wp.array(dtype=int)
    geom_type: wp.array(dtype=int)
    geom_mat: wp.array(dtype=int)
    geom_middle: wp.array(dtype=wp.vec3)  # of the bounding box of a mesh
    geom_half: wp.array(dtype=wp.vec3)
    geom_vert: wp.array(dtype=int)  # the first of its mesh, and how many
    geom_verts: wp.array(dtype=int)
    geom_face: wp.array(dtype=int)
    geom_faces: wp.array(dtype=int)
    geom_normal: wp.array(dtype=int)
    mesh_verts: wp.array(dtype=wp.vec3)
    mesh_faces: wp.array(dtype=wp.vec3i)
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


@wp.struct
class Scratch:
    """One tile's pixels, (TILE * TILE,), and one mesh's vertices before the eye."""

    geom: wp.array(dtype=int)
    distance: wp.array(dtype=float)
    ray: wp.array(dtype=wp.vec3)
    normal: wp.array(dtype=wp.vec3)
    corner: wp.array(dtype=wp.vec3)
    spot: wp.array(dtype=wp.vec2)  # in the picture, pixels


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
    l = wp.transpose(scene.geom_xmat[row, g]) @ d
    reach = size[0]
    if kind == wp.static(MESH):
        reach = wp.dot(scene.geom_half[g], wp.abs(l))
    elif kind == wp.static(BOX):
        reach = wp.dot(size, wp.abs(l))
    elif kind == wp.static(CAPSULE):
        reach = size[0] + size[1] * wp.abs(l[2])
    elif kind == wp.static(CYLINDER):
        reach = size[0] * wp.sqrt(wp.max(0.0, 1.0 - l[2] * l[2])) + size[1] * wp.abs(l[2])
    elif kind == wp.static(ELLIPSOID):
        reach = wp.length(wp.cw_mul(size, l))
    return reach


@wp.func
def texel(scene: Scene, texture: int, x: float, y: float):
    """The texture at (x, y) in texels, whose centres are halves; linear between four, repeating.

    x and y are from 0 to the texture's size.
    """
    size = scene.texture_size[texture]
    px = x - 0.5
    py = y - 0.5
    x0 = int(wp.floor(px))
    y0 = int(wp.floor(py))
    fx = px - float(x0)
    fy = py - float(y0)
    xa = wp.where(x0 < 0, x0 + size[0], x0)
    ya = wp.where(y0 < 0, y0 + size[1], y0)
    xb = wp.where(x0 + 1 < size[0], x0 + 1, 0)
    yb = wp.where(y0 + 1 < size[1], y0 + 1, 0)
    start = scene.texture_start[texture]
    top = (1.0 - fx) * scene.texels[start + ya * size[0] + xa]
    top += fx * scene.texels[start + ya * size[0] + xb]
    low = (1.0 - fx) * scene.texels[start + yb * size[0] + xa]
    low += fx * scene.texels[start + yb * size[0] + xb]
    return (1.0 - fy) * top + fy * low


@wp.func
def on_plane(scene: Scene, row: int, g: int, mat: int, p: wp.vec3):
    """Texture coordinates on a plane at the point p of its frame; sizes of 0 are without end."""
    size = scene.geom_size[row, g]
    repeat = scene.mat_repeat[mat]
    uv = wp.vec2(0.5 * p[0] * repeat[0], -0.5 * p[1] * repeat[1])
    for i in range(2):
        if size[i] > 0.0:
            along = p[i]
            if i == 1:
                along = -p[i]
            uv[i] = (along + size[i]) / (2.0 * size[i]) * repeat[i]
            if scene.mat_uniform[mat] != 0:
                uv[i] = uv[i] * size[i]
    if size[0] <= 0.0 or size[1] <= 0.0:
        uv = uv - wp.vec2(0.5, 0.5)
    return uv


@wp.func
def sample(scene: Scene, texture: int, uv: wp.vec2):
    """The texture at uv, in units of its size."""
    pixels = scene.texture_size[texture]
    u = uv[0] - wp.floor(uv[0])
    v = uv[1] - wp.floor(uv[1])
    return texel(scene, texture, u * float(pixels[0]), v * float(pixels[1]))


@wp.func
def sky_at(scene: Scene, d: wp.vec3):
    """The sky in world direction d: six faces of a cube below one another, with z up."""
    if scene.sky < 0:
        return wp.vec3()
    x = d[0]
    y = d[2]
    z = -d[1]
    face = float(0.0)
    s = -z
    t = -y
    most = wp.abs(x)
    if most >= wp.abs(y) and most >= wp.abs(z):
        if x <= 0.0:
            face = 1.0
            s = z
    elif wp.abs(y) >= wp.abs(z):
        most = wp.abs(y)
        s = x
        face = wp.where(y > 0.0, 2.0, 3.0)
        t = wp.where(y > 0.0, z, -z)
    else:
        most = wp.abs(z)
        face = wp.where(z > 0.0, 4.0, 5.0)
        s = wp.where(z > 0.0, x, -x)
    width = float(scene.texture_size[scene.sky][0])
    u = wp.clamp(0.5 * (s / most + 1.0) * width, 0.5, width - 0.5)
    v = wp.clamp(0.5 * (t / most + 1.0) * width, 0.5, width - 0.5)
    return texel(scene, scene.sky, u, v + face * width)
