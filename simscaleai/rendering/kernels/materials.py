"""Surface properties at the points that pixels see: color, texture, emission, highlights and mesh normals."""

import warp as wp

from simscaleai.rendering.kernels.render_scene import MESH, PLANE, RenderScene, geom_color
from simscaleai.rendering.kernels.tile_types import PIXELS, TileFloat, TileInt, TileVec3

SPECULAR, SHININESS = 0.5, 0.5  # of a geom without a material, as in MuJoCo
MAX_SHININESS = 128.0  # MuJoCo's shininess is in [0, 1]; OpenGL's exponent is 128 times it


@wp.func
def surface_at(
    scene: RenderScene,
    env_id: int,
    eye: wp.vec3,
    d: TileVec3,
    t: TileFloat,
    geom_ids: TileInt,
    face_ids: TileInt,
    n: TileVec3,
):
    """Return (color, emission, specular, shininess, normals) where the rays of a tile end.

    Args:
      d, t: directions of the rays and the distances at which they end.
      geom_ids: geoms met, -1 for the sky, whose color is final.
      face_ids: faces met, of geoms that are meshes.
      n: normals, of geoms that are not; those of meshes are filled in.
    """
    color = TileVec3()
    emission = TileFloat()
    specular = TileFloat()
    shininess = TileFloat()
    # Properties of the geom of the pixel before: most neighbors see the same one.
    last = int(-1)
    mat = int(-1)
    texture = int(-1)
    kind = int(-1)
    frame = wp.mat33()
    to_local = wp.mat33()
    local_eye = wp.vec3()
    geom_rgb = wp.vec3()
    geom_emission = float(0.0)
    geom_specular = float(0.0)
    geom_shininess = float(1.0)
    for i in range(wp.static(PIXELS)):
        g = geom_ids[i]
        rgb = wp.vec3()
        if g < 0:
            rgb = sample_sky(scene, d[:, i])
        else:
            if g != last:
                last = g
                kind = scene.geom_type[g]
                frame = scene.geom_xmat[env_id, g]
                to_local = wp.transpose(frame)
                local_eye = to_local @ (eye - scene.geom_xpos[env_id, g])
                rgba = geom_color(scene, env_id, g)
                geom_rgb = wp.vec3(rgba[0], rgba[1], rgba[2])
                mat = scene.geom_mat[g]
                texture = int(-1)
                geom_emission = float(0.0)
                geom_specular = float(wp.static(SPECULAR))
                geom_shininess = float(wp.static(SHININESS * MAX_SHININESS))
                if mat >= 0:
                    texture = scene.mat_texture[mat]
                    geom_emission = scene.mat_emission[env_id, mat]
                    geom_specular = scene.mat_specular[env_id, mat]
                    geom_shininess = scene.mat_shininess[env_id, mat] * wp.static(MAX_SHININESS)
                    if geom_shininess <= 0.0:
                        geom_specular = float(
                            0.0
                        )  # an exponent of 0 would be a highlight everywhere
            rgb = geom_rgb
            uv = wp.vec2()
            if kind == wp.static(MESH):
                normal, uv = interpolate_face(scene, g, face_ids[i], local_eye, to_local @ d[:, i])
                n[:, i] = wp.normalize(frame @ normal)
            if texture >= 0:
                if kind == wp.static(PLANE):
                    uv = plane_uv(scene, env_id, g, mat, local_eye + to_local @ d[:, i] * t[i])
                else:
                    uv = wp.cw_mul(uv, scene.mat_texrepeat[mat])
                rgb = wp.cw_mul(rgb, sample_texture(scene, texture, uv))
            emission[i] = geom_emission
            specular[i] = geom_specular
            shininess[i] = geom_shininess
        color[:, i] = rgb
    return color, emission, specular, shininess, n


@wp.func
def corner_normal(scene: RenderScene, index: int, flat: wp.vec3):
    """Return a vertex normal, or the face's where they differ by over 37 degrees (cos < 0.8), as MuJoCo."""
    n = scene.mesh_normals[index]
    if wp.dot(n, flat) < 0.8:
        return flat
    return n


@wp.func
def interpolate_face(scene: RenderScene, g: int, number: int, o: wp.vec3, d: wp.vec3):
    """Return normal and texture coordinates where a ray (o, d) meets face `number` of geom g, local frame."""
    # Barycentric weights from the edge functions of `kernels.raster`.
    face = scene.mesh_faces[scene.geom_face[g] + number]
    start = scene.geom_vert[g]
    a = scene.mesh_verts[start + face[0]] - o
    b = scene.mesh_verts[start + face[1]] - o
    c = scene.mesh_verts[start + face[2]] - o
    weights = wp.vec3(
        wp.dot(d, wp.cross(b, c)), wp.dot(d, wp.cross(c, a)), wp.dot(d, wp.cross(a, b))
    )
    weights = weights / (weights[0] + weights[1] + weights[2])
    # Smooth shading: normals of the corners, which MuJoCo stores apart from the vertices.
    flat = wp.normalize(wp.cross(b - a, c - a))
    face = scene.face_normals[scene.geom_face[g] + number]
    start = scene.geom_normal[g]
    n = corner_normal(scene, start + face[0], flat) * weights[0]
    n += corner_normal(scene, start + face[1], flat) * weights[1]
    n += corner_normal(scene, start + face[2], flat) * weights[2]
    uv = wp.vec2()
    first = scene.geom_texcoord[g]
    if first >= 0:
        face = scene.face_texcoords[scene.geom_face[g] + number]
        uv = scene.mesh_texcoords[first + face[0]] * weights[0]
        uv += scene.mesh_texcoords[first + face[1]] * weights[1]
        uv += scene.mesh_texcoords[first + face[2]] * weights[2]
    return n, uv


@wp.func
def bilinear(scene: RenderScene, texture: int, x: float, y: float):
    """Return the RGB of a texture at (x, y) in texels, whose centers are at halves.

    Bilinear between four texels, repeating at the borders; x and y are in [0, size].
    """
    size = scene.texture_size[texture]
    px = x - 0.5
    py = y - 0.5
    x0 = int(wp.floor(px))
    y0 = int(wp.floor(py))
    fx = px - float(x0)
    fy = py - float(y0)
    # wrap around
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
def plane_uv(scene: RenderScene, env_id: int, g: int, mat: int, p: wp.vec3):
    """Return texture coordinates of the point p of a plane, in its frame.

    As MuJoCo: on a finite side the texture is fitted to the plane (`texuniform`: per meter), on an infinite
    one it repeats every 2 m.
    """
    size = scene.geom_size[env_id, g]
    repeat = scene.mat_texrepeat[mat]
    uv = wp.vec2(0.5 * p[0] * repeat[0], -0.5 * p[1] * repeat[1])
    for i in range(2):
        if size[i] > 0.0:
            along = p[i]
            if i == 1:
                along = -p[i]  # v points down the image, y up
            uv[i] = (along + size[i]) / (2.0 * size[i]) * repeat[i]
            if scene.mat_texuniform[mat] != 0:
                uv[i] = uv[i] * size[i]
    if size[0] <= 0.0 or size[1] <= 0.0:
        uv = uv - wp.vec2(0.5, 0.5)
    return uv


@wp.func
def sample_texture(scene: RenderScene, texture: int, uv: wp.vec2):
    """Return the RGB of a texture at uv, in units of its size, repeating."""
    size = scene.texture_size[texture]
    u = uv[0] - wp.floor(uv[0])
    v = uv[1] - wp.floor(uv[1])
    return bilinear(scene, texture, u * float(size[0]), v * float(size[1]))


@wp.func
def sample_sky(scene: RenderScene, d: wp.vec3):
    """Return the RGB of the skybox in world direction d, black without one.

    A cube map: six square faces below one another, in OpenGL's order +x, -x, +y, -y, +z, -z.
    """
    if scene.sky < 0:
        return wp.vec3()
    # OpenGL's cube maps have y up, MuJoCo's world z.
    x = d[0]
    y = d[2]
    z = -d[1]
    # The axis of largest magnitude chooses the face; (s, t) are the coordinates on it.
    face = float(0.0)
    s = -z
    t = -y
    largest = wp.abs(x)
    if largest >= wp.abs(y) and largest >= wp.abs(z):
        if x <= 0.0:
            face = 1.0
            s = z
    elif wp.abs(y) >= wp.abs(z):
        largest = wp.abs(y)
        s = x
        face = wp.where(y > 0.0, 2.0, 3.0)
        t = wp.where(y > 0.0, z, -z)
    else:
        largest = wp.abs(z)
        face = wp.where(z > 0.0, 4.0, 5.0)
        s = wp.where(z > 0.0, x, -x)
    width = float(scene.texture_size[scene.sky][0])
    # Clamped by half a texel, so that faces do not blend into each other.
    u = wp.clamp(0.5 * (s / largest + 1.0) * width, 0.5, width - 0.5)
    v = wp.clamp(0.5 * (t / largest + 1.0) * width, 0.5, width - 0.5)
    return bilinear(scene, scene.sky, u, v + face * width)
