"""The ray tracer: one Warp kernel, in which a tile of 8 x 8 pixels is a unit of work.

Rays of a tile go much the same way. So it is decided once for a tile which geoms its rays can meet, by
bounding spheres and the cone around its rays, and once for a tile and light which geoms can cast a shadow
into what it sees. Most rays are then tested against two or three geoms. Shading is MuJoCo's: spot, point and
directional lights, a headlight, shadows, highlights, textured planes and a sky.

Trap: a launch keeps what it knows of its tile in `Scratch`, and so must run on one CPU thread.
"""

import warp as wp

from simscaleai.sim.rendering import shapes
from simscaleai.sim.rendering.warp_engine import MAX_GEOMS, TILE

wp.set_module_options({"enable_backward": False, "fast_math": True})

SHADOW = 0.3  # part of a light that reaches what lies in its shadow, as in MuJoCo's renderer
SPECULAR, SHININESS = 0.5, 0.5  # of a geom without a material, as in MuJoCo
MAX_SHININESS = 128.0

PLANE, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX, MESH = 0, 2, 3, 4, 5, 6, 7  # mjtGeom
SPOT, DIRECTIONAL = 0, 1  # mjtLightType

Picked = wp.types.vector(length=MAX_GEOMS, dtype=wp.int32)
Begins = wp.types.vector(length=MAX_GEOMS, dtype=wp.float32)


@wp.struct
class Scene:
    """What all tiles share. Arrays of rows: (n, ...)."""

    visible: wp.array(dtype=int)
    geom_type: wp.array(dtype=int)
    geom_mat: wp.array(dtype=int)
    geom_mesh: wp.array(dtype=wp.uint64)
    geom_middle: wp.array(dtype=wp.vec3)  # of the bounding box of a mesh
    geom_half: wp.array(dtype=wp.vec3)
    geom_face: wp.array(dtype=int)  # the first of its mesh
    geom_normal: wp.array(dtype=int)
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
    light_shadow: wp.array(dtype=int)
    light_fading: wp.array(dtype=wp.vec3)
    light_cutoff: wp.array(dtype=float)  # cosine
    light_exponent: wp.array(dtype=float)
    head_ambient: wp.vec3
    head_diffuse: wp.vec3
    head_specular: wp.vec3
    far: float
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
    """One tile's pixels, (TILE * TILE,)."""

    geom: wp.array(dtype=int)
    distance: wp.array(dtype=float)
    ray: wp.array(dtype=wp.vec3)
    normal: wp.array(dtype=wp.vec3)
    uv: wp.array(dtype=wp.vec2)
    base: wp.array(dtype=wp.vec3)
    colour: wp.array(dtype=wp.vec3)


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


@wp.func
def texel(scene: Scene, texture: int, x: float, y: float):
    """The texture at (x, y) in texels, whose centres are halves; linear between four, repeating."""
    size = scene.texture_size[texture]
    px = x - 0.5
    py = y - 0.5
    x0 = int(wp.floor(px))
    y0 = int(wp.floor(py))
    fx = px - float(x0)
    fy = py - float(y0)
    xa = (x0 % size[0] + size[0]) % size[0]
    ya = (y0 % size[1] + size[1]) % size[1]
    xb = (xa + 1) % size[0]
    yb = (ya + 1) % size[1]
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


@wp.func
def power_of(x: float, exponent: float):
    """x to the power of `exponent`; the two that lights mostly have are quick."""
    if exponent == 1.0:
        return x
    if exponent == 2.0:
        return x * x
    return wp.pow(wp.max(x, 1.0e-6), exponent)


@wp.func
def shadowed(
    scene: Scene,
    row: int,
    near: Picked,
    count: int,
    own: int,
    p: wp.vec3,
    d: wp.vec3,
    reach: float,
    first: int,
):
    """Which of the geoms picked is met from p in direction d before `reach`, by its place; -1 for none.

    The one at `first` is asked first: it is what the pixel before lay in the shadow of.
    """
    for i in range(count):
        k = (first + i) % count
        g = near[k]
        kind = scene.geom_type[g]
        if g == own and kind != wp.static(MESH):
            continue  # convex: its lit side is not in its shadow
        turn = wp.transpose(scene.geom_xmat[row, g])
        o = turn @ (p - scene.geom_xpos[row, g])
        l = turn @ d
        if kind == wp.static(MESH):
            enter, leave = shapes.enters_box(o - scene.geom_middle[g], l, scene.geom_half[g])
            if enter <= leave and enter < reach:
                # not in the condition above: Warp evaluates all of it
                if wp.mesh_query_ray_anyhit(
                    scene.geom_mesh[g], o, l, wp.min(reach, leave + 1.0e-3)
                ):
                    return k
        else:
            t, _n = hit_simple(kind, scene.geom_size[row, g], o, l)
            if t > 0.0 and t < reach:
                return k
    return -1


@wp.kernel
def trace(
    scene: Scene,
    scratch: Scratch,
    first: int,
    camera: int,
    width: int,
    height: int,
    pixel: float,
    coloured: int,
    rgb: wp.array3d(dtype=wp.uint8),
    depth: wp.array2d(dtype=float),
    geoms: wp.array2d(dtype=int),
):
    """Draw tile first + tid, counted over rows and then over the tiles of a picture.

    `pixel` is a pixel's size at distance 1. `rgb` is (n, H * W, 3), `depth` and `geoms` (n, H * W).
    """
    across = (width + wp.static(TILE - 1)) // wp.static(TILE)
    tiles = across * ((height + wp.static(TILE - 1)) // wp.static(TILE))
    work = first + wp.tid()
    row = work // tiles
    tile = work % tiles
    x0 = (tile % across) * wp.static(TILE)
    y0 = (tile // across) * wp.static(TILE)
    wide = wp.min(wp.static(TILE), width - x0)
    high = wp.min(wp.static(TILE), height - y0)
    eye = scene.cam_xpos[row, camera]
    turn = scene.cam_xmat[row, camera]
    left = (float(x0) - 0.5 * float(width)) * pixel
    top = (0.5 * float(height) - float(y0)) * pixel

    # the cone around the tile's rays
    right = left + float(wide) * pixel
    bottom = top - float(high) * pixel
    axis = wp.normalize(wp.vec3(0.5 * (left + right), 0.5 * (top + bottom), -1.0))
    cosine = wp.dot(axis, wp.normalize(wp.vec3(left, top, -1.0)))
    cosine = wp.min(cosine, wp.dot(axis, wp.normalize(wp.vec3(right, top, -1.0))))
    cosine = wp.min(cosine, wp.dot(axis, wp.normalize(wp.vec3(left, bottom, -1.0))))
    cosine = wp.min(cosine, wp.dot(axis, wp.normalize(wp.vec3(right, bottom, -1.0))))
    sine = wp.sqrt(wp.max(0.0, 1.0 - cosine * cosine))
    axis = turn @ axis
    near = Picked()
    start = Begins()
    count = int(0)
    for k in range(scene.visible.shape[0]):
        g = scene.visible[k]
        if colour_of(scene, row, g)[3] == 0.0:
            continue
        begin = float(0.0)
        if scene.geom_type[g] != wp.static(PLANE):
            middle, radius = bound(scene, row, g)
            v = middle - eye
            begin = wp.length(v) - radius
            along = wp.dot(v, axis)
            beside = wp.length(v - along * axis)
            if along < -radius or beside * cosine - along * sine > radius:
                continue
        # nearest first: what lies behind a hit need not be looked at
        j = count
        while j > 0 and start[j - 1] > begin:
            near[j] = near[j - 1]
            start[j] = start[j - 1]
            j -= 1
        near[j] = g
        start[j] = begin
        count += 1

    # what each ray meets
    low = wp.vec3(1.0e8, 1.0e8, 1.0e8)
    up = -low
    for i in range(wide * high):
        x = i % wide
        y = i // wide
        local = wp.normalize(
            wp.vec3(left + (float(x) + 0.5) * pixel, top - (float(y) + 0.5) * pixel, -1.0)
        )
        d = turn @ local
        best = scene.far / -local[2]
        who = int(-1)
        normal = wp.vec3()
        uv = wp.vec2()
        for k in range(count):
            if start[k] > best:
                break
            g = near[k]
            kind = scene.geom_type[g]
            back = wp.transpose(scene.geom_xmat[row, g])
            o = back @ (eye - scene.geom_xpos[row, g])
            l = back @ d
            t = float(-1.0)
            n = wp.vec3()
            at = wp.vec2()
            if kind == wp.static(MESH):
                t, n, at = hit_mesh(scene, g, o, l, best)
            else:
                t, n = hit_simple(kind, scene.geom_size[row, g], o, l)
            if t > 0.0 and t < best:
                best = t
                who = g
                normal = n
                uv = at
        out = (y0 + y) * width + x0 + x
        geoms[row, out] = who
        depth[row, out] = 0.0
        if who >= 0:
            depth[row, out] = best * -local[2]
            p = eye + d * best
            low = wp.min(low, p)
            up = wp.max(up, p)
        scratch.geom[i] = who
        scratch.distance[i] = best
        scratch.ray[i] = d
        scratch.normal[i] = normal
        scratch.uv[i] = uv
    if coloured == 0:
        return

    # colours, and light that comes from everywhere
    for i in range(wide * high):
        g = scratch.geom[i]
        d = scratch.ray[i]
        if g < 0:
            scratch.colour[i] = sky_at(scene, d)
            continue
        mat = scene.geom_mat[g]
        rgba = colour_of(scene, row, g)
        base = wp.vec3(rgba[0], rgba[1], rgba[2])
        glow = float(0.0)
        frame = scene.geom_xmat[row, g]
        if mat >= 0:
            glow = scene.mat_emission[row, mat]
            if scene.mat_texture[mat] >= 0:
                uv = wp.cw_mul(scratch.uv[i], scene.mat_repeat[mat])
                if scene.geom_type[g] == wp.static(PLANE):
                    p = eye + d * scratch.distance[i] - scene.geom_xpos[row, g]
                    uv = on_plane(scene, row, g, mat, wp.transpose(frame) @ p)
                base = wp.cw_mul(base, sample(scene, scene.mat_texture[mat], uv))
        ambient = scene.head_ambient
        for k in range(scene.light_type.shape[0]):
            if scene.light_active[row, k] != 0:
                ambient = ambient + scene.light_ambient[row, k]
        scratch.base[i] = base
        scratch.normal[i] = wp.normalize(frame @ scratch.normal[i])
        scratch.colour[i] = base * glow + wp.cw_mul(base, ambient)

    # lights, of which the last is the headlight
    centre = 0.5 * (low + up)
    spread = 0.5 * wp.length(up - low)
    lights = scene.light_type.shape[0]
    for k in range(lights + 1):
        kind = int(wp.static(DIRECTIONAL))
        place = eye
        aim = -wp.vec3(turn[0, 2], turn[1, 2], turn[2, 2])
        diffuse = scene.head_diffuse
        specular = scene.head_specular
        casts = int(0)
        if k < lights:
            if scene.light_active[row, k] == 0:
                continue
            kind = scene.light_type[k]
            place = scene.light_xpos[row, k]
            aim = scene.light_xdir[row, k]
            diffuse = scene.light_diffuse[row, k]
            specular = scene.light_specular[row, k]
            casts = scene.light_shadow[k]
        shades = Picked()
        blocking = int(0)
        last = int(0)
        if casts != 0:
            # geoms near the line from the light to the middle of what the tile sees
            line = centre - place
            if kind == wp.static(DIRECTIONAL):
                line = aim * 1.0e3
            foot = centre - line
            span = wp.dot(line, line)
            for j in range(scene.visible.shape[0]):
                g = scene.visible[j]
                if colour_of(scene, row, g)[3] == 0.0:
                    continue
                if scene.geom_type[g] != wp.static(PLANE):
                    middle, radius = bound(scene, row, g)
                    s = wp.clamp(wp.dot(middle - foot, line) / span, 0.0, 1.0)
                    if wp.length(middle - foot - s * line) > radius + spread:
                        continue
                shades[blocking] = g
                blocking += 1
        for i in range(wide * high):
            g = scratch.geom[i]
            if g < 0:
                continue
            d = scratch.ray[i]
            n = scratch.normal[i]
            p = eye + d * scratch.distance[i]
            toward = -aim
            reach = float(1.0e8)
            strength = float(1.0)
            if kind != wp.static(DIRECTIONAL):
                reach = wp.length(place - p)
                toward = (place - p) / wp.max(reach, 1.0e-6)
                fading = scene.light_fading[k]
                strength = 1.0 / (fading[0] + reach * (fading[1] + reach * fading[2]))
                if kind == wp.static(SPOT):
                    inner = -wp.dot(toward, aim)
                    if inner < scene.light_cutoff[k]:
                        continue
                    strength = strength * power_of(inner, scene.light_exponent[k])
            facing = wp.dot(n, toward)
            if facing <= 0.0:
                continue
            if blocking > 0:
                origin = p + n * 1.0e-4
                met = shadowed(
                    scene, row, shades, blocking, g, origin, toward, reach - 1.0e-3, last
                )
                if met >= 0:
                    last = met
                    strength = strength * wp.static(SHADOW)
            shine = float(wp.static(SPECULAR))
            power = float(wp.static(SHININESS * MAX_SHININESS))
            mat = scene.geom_mat[g]
            if mat >= 0:
                shine = scene.mat_specular[row, mat]
                power = scene.mat_shininess[row, mat] * wp.static(MAX_SHININESS)
            added = wp.cw_mul(scratch.base[i], diffuse) * (facing * strength)
            if shine > 0.0 and power > 0.0 and wp.length_sq(specular) > 0.0:
                middle_way = wp.max(0.0, wp.dot(n, wp.normalize(toward - d)))
                added = added + specular * (shine * strength * power_of(middle_way, power))
            scratch.colour[i] = scratch.colour[i] + added

    for i in range(wide * high):
        out = (y0 + i // wide) * width + x0 + i % wide
        for channel in range(3):
            level = wp.clamp(scratch.colour[i][channel], 0.0, 1.0) * 255.0
            rgb[row, out, channel] = wp.uint8(level)
