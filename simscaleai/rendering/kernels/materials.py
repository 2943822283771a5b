"""What a surface is made of at the point that a pixel sees: colours, textures and the normals of meshes."""

import warp as wp

from simscaleai.rendering.kernels.lanes import PIXELS, Lanes, Names, Points
from simscaleai.rendering.kernels.scene import MESH, PLANE, Scene, colour_of

SPECULAR, SHININESS = 0.5, 0.5  # of a geom without a material, as in MuJoCo
MAX_SHININESS = 128.0


@wp.func
def look_up(
    scene: Scene, row: int, eye: wp.vec3, d: Points, t: Lanes, who: Names, face: Names, n: Points
):
    """The colours, glows, strengths and exponents of highlights and normals of what rays met.

    Args:
      who: geoms met, -1 for the sky, whose colours are those to be shown.
      face: faces met, of those which are meshes.
      n: normals, of those which are none.
    """
    colour = Points()
    glow = Lanes()
    shine = Lanes()
    power = Lanes()
    last = int(-1)
    mat = int(-1)
    texture = int(-1)
    kind = int(-1)
    frame = wp.mat33()
    back = wp.mat33()
    o = wp.vec3()
    plain = wp.vec3()
    glowing = float(0.0)
    shining = float(0.0)
    exponent = float(1.0)
    for i in range(wp.static(PIXELS)):
        g = who[i]
        base = wp.vec3()
        if g < 0:
            base = sky_at(scene, d[:, i])
        else:
            if g != last:
                last = g
                kind = scene.geom_type[g]
                frame = scene.geom_xmat[row, g]
                back = wp.transpose(frame)
                o = back @ (eye - scene.geom_xpos[row, g])
                rgba = colour_of(scene, row, g)
                plain = wp.vec3(rgba[0], rgba[1], rgba[2])
                mat = scene.geom_mat[g]
                texture = int(-1)
                glowing = float(0.0)
                shining = float(wp.static(SPECULAR))
                exponent = float(wp.static(SHININESS * MAX_SHININESS))
                if mat >= 0:
                    texture = scene.mat_texture[mat]
                    glowing = scene.mat_emission[row, mat]
                    shining = scene.mat_specular[row, mat]
                    exponent = scene.mat_shininess[row, mat] * wp.static(MAX_SHININESS)
                    if exponent <= 0.0:
                        shining = float(0.0)
            base = plain
            uv = wp.vec2()
            if kind == wp.static(MESH):
                normal, uv = on_face(scene, g, face[i], o, back @ d[:, i])
                n[:, i] = wp.normalize(frame @ normal)
            if texture >= 0:
                if kind == wp.static(PLANE):
                    uv = on_plane(scene, row, g, mat, o + back @ d[:, i] * t[i])
                else:
                    uv = wp.cw_mul(uv, scene.mat_repeat[mat])
                base = wp.cw_mul(base, sample(scene, texture, uv))
            glow[i] = glowing
            shine[i] = shining
            power[i] = exponent
        colour[:, i] = base
    return colour, glow, shine, power, n


@wp.func
def smooth(scene: Scene, corner: int, flat: wp.vec3):
    """A vertex's normal, or the face's where the two differ by more than 37 degrees, as in MuJoCo."""
    n = scene.mesh_normals[corner]
    if wp.dot(n, flat) < 0.8:
        return flat
    return n


@wp.func
def on_face(scene: Scene, g: int, number: int, o: wp.vec3, d: wp.vec3):
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
