"""The ray tracer: one Warp kernel, in which a tile of 8 x 8 pixels is a unit of work.

Meshes were rasterized before (`rendering.raster`), for the camera and for the lights.
All else is met by rays, and rays of a tile go much the same way: so it is decided once for a tile which geoms
they can meet, by bounding spheres and the cone around them, and which geoms can cast a shadow into what it
sees. Most rays are then tested against one or two geoms. Shading is MuJoCo's: spot, point and
directional lights, a headlight, shadows, highlights, textures and a sky.

Trap: a launch keeps what it knows of its tile in `Scratch`, and so must run on one CPU thread.
"""

import warp as wp

from simscaleai.sim.rendering.loading import MAX_GEOMS, TILE
from simscaleai.sim.rendering.meeting import hit_face, hit_simple
from simscaleai.sim.rendering.raster import lit
from simscaleai.sim.rendering.scene import (
    MESH,
    PLANE,
    Scene,
    Scratch,
    bound,
    colour_of,
    extent,
    on_plane,
    sample,
    sky_at,
)

wp.set_module_options({"enable_backward": False, "fast_math": True})

SHADOW = 0.3  # part of a light that reaches what lies in its shadow, as in MuJoCo's renderer
SPECULAR, SHININESS = 0.5, 0.5  # of a geom without a material, as in MuJoCo
MAX_SHININESS = 128.0

SPOT, DIRECTIONAL = 0, 1  # mjtLightType

Picked = wp.types.vector(length=MAX_GEOMS, dtype=wp.int32)
Begins = wp.types.vector(length=MAX_GEOMS, dtype=wp.float32)


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
        if g == own:
            continue  # convex: its lit side is not in its shadow
        turn = wp.transpose(scene.geom_xmat[row, g])
        o = turn @ (p - scene.geom_xpos[row, g])
        t, _n = hit_simple(scene.geom_type[g], scene.geom_size[row, g], o, turn @ d)
        if t > 0.0 and t < reach:
            return k
    return -1


@wp.func
def near_line(scene: Scene, row: int, g: int, centre: wp.vec3, line: wp.vec3, spread: float):
    """Whether geom g (no mesh) may hide a light, at the start of `line`, from what is near `centre`."""
    foot = centre - line
    if scene.geom_type[g] == wp.static(PLANE):
        # it hides what is above it, from lights below it only
        outward = scene.geom_xmat[row, g] @ wp.vec3(0.0, 0.0, 1.0)
        return wp.where(wp.dot(foot - scene.geom_xpos[row, g], outward) > 0.0, 0, 1)
    middle, radius = bound(scene, row, g)
    s = wp.clamp(wp.dot(middle - foot, line) / wp.dot(line, line), 0.0, 1.0)
    apart = middle - foot - s * line
    distance = wp.length(apart)
    if distance > radius + spread:
        return 0
    if distance > spread + extent(scene, row, g, apart / wp.max(distance, 1.0e-6)):
        return 0
    return 1


@wp.kernel
def trace(
    scene: Scene,
    scratch: Scratch,
    rows: wp.array(dtype=int),
    first: int,
    camera: int,
    width: int,
    height: int,
    pixel: float,
    tiles: int,
    coloured: int,
    rgb: wp.array3d(dtype=wp.uint8),
    depth: wp.array2d(dtype=float),
    geoms: wp.array2d(dtype=int),
    faces: wp.array2d(dtype=int),
):
    """Draw tile first + tid, counted over `rows` and then over the tiles of a picture.

    `pixel` is a pixel's size at distance 1. `tiles` are those of a picture, of which some may lie below it.
    `rgb` is (n, H * W, 3), `depth` and `geoms` (n, H * W); those two say what was rasterized (1 / depth), and
    `faces` which faces those are.
    """
    across = (width + wp.static(TILE - 1)) // wp.static(TILE)
    work = first + wp.tid()
    row = rows[work // tiles]
    tile = work % tiles
    x0 = (tile % across) * wp.static(TILE)
    y0 = (tile // across) * wp.static(TILE)
    if y0 >= height:
        return
    wide = wp.min(wp.static(TILE), width - x0)
    high = wp.min(wp.static(TILE), height - y0)
    eye = scene.cam_xpos[row, camera]
    turn = scene.cam_xmat[row, camera]
    left = (float(x0) - 0.5 * float(width)) * pixel
    top = (0.5 * float(height) - float(y0)) * pixel

    ahead = -wp.vec3(turn[0, 2], turn[1, 2], turn[2, 2])

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
        if scene.geom_type[g] == wp.static(MESH) or colour_of(scene, row, g)[3] == 0.0:
            continue
        begin = float(0.0)
        if scene.geom_type[g] == wp.static(PLANE):
            # the steepest ray of the cone is the one that meets it first
            outward = scene.geom_xmat[row, g] @ wp.vec3(0.0, 0.0, 1.0)
            height_above = wp.dot(eye - scene.geom_xpos[row, g], outward)
            steep = -wp.dot(axis, outward)
            if steep < cosine:
                steep = steep * cosine + wp.sqrt(wp.max(0.0, 1.0 - steep * steep)) * sine
            else:
                steep = float(1.0)
            if height_above <= 0.0 or steep <= 0.0:
                continue
            begin = 0.999 * height_above / steep
        else:
            middle, radius = bound(scene, row, g)
            v = middle - eye
            begin = wp.length(v) - radius
            # apart from the cone, if there is a plane between: the one that touches it on this side
            along = wp.dot(v, axis)
            beside = v - along * axis
            side = wp.normalize(beside) * cosine - axis * sine
            if wp.dot(v, side) > wp.min(radius, extent(scene, row, g, side)):
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
        out = (y0 + y) * width + x0 + x
        who = geoms[row, out]
        best = scene.far / -local[2]
        if who >= 0:
            best = wp.min(best, 1.0 / (depth[row, out] * -local[2]))
        normal = wp.vec3()
        for k in range(count):
            if start[k] > best:
                break
            g = near[k]
            kind = scene.geom_type[g]
            back = wp.transpose(scene.geom_xmat[row, g])
            o = back @ (eye - scene.geom_xpos[row, g])
            l = back @ d
            t, n = hit_simple(kind, scene.geom_size[row, g], o, l)
            if t > 0.0 and t < best:
                best = t
                who = g
                normal = n
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
    if coloured == 0:
        return

    # what can cast a shadow into the tile: what is near a line from a light to the middle of what it sees
    centre = 0.5 * (low + up)
    spread = 0.5 * wp.length(up - low)
    lights = scene.light_type.shape[0]
    shades = Picked()
    blocking = int(0)
    for j in range(scene.visible.shape[0]):
        g = scene.visible[j]
        if scene.geom_type[g] == wp.static(MESH) or colour_of(scene, row, g)[3] == 0.0:
            continue
        hides = int(0)
        for k in range(lights):
            if scene.light_caster[k] >= 0 and scene.light_active[row, k] != 0:
                line = centre - scene.light_xpos[row, k]
                if scene.light_type[k] == wp.static(DIRECTIONAL):
                    line = scene.light_xdir[row, k] * 1.0e3
                hides += near_line(scene, row, g, centre, line, spread)
        if hides > 0:
            shades[blocking] = g
            blocking += 1

    last = int(0)
    for i in range(wide * high):
        g = scratch.geom[i]
        d = scratch.ray[i]
        colour = wp.vec3()
        if g < 0:
            colour = sky_at(scene, d)
        else:
            p = eye + d * scratch.distance[i]
            frame = scene.geom_xmat[row, g]
            mat = scene.geom_mat[g]
            n = scratch.normal[i]
            uv = wp.vec2()
            if scene.geom_type[g] == wp.static(MESH):
                back = wp.transpose(frame)
                out = (y0 + i // wide) * width + x0 + i % wide
                o = back @ (eye - scene.geom_xpos[row, g])
                n, uv = hit_face(scene, g, faces[row, out], o, back @ d)
            n = wp.normalize(frame @ n)
            rgba = colour_of(scene, row, g)
            base = wp.vec3(rgba[0], rgba[1], rgba[2])
            glow = float(0.0)
            shine = float(wp.static(SPECULAR))
            power = float(wp.static(SHININESS * MAX_SHININESS))
            if mat >= 0:
                glow = scene.mat_emission[row, mat]
                shine = scene.mat_specular[row, mat]
                power = scene.mat_shininess[row, mat] * wp.static(MAX_SHININESS)
                if scene.mat_texture[mat] >= 0:
                    uv = wp.cw_mul(uv, scene.mat_repeat[mat])
                    if scene.geom_type[g] == wp.static(PLANE):
                        uv = on_plane(
                            scene, row, g, mat, wp.transpose(frame) @ (p - scene.geom_xpos[row, g])
                        )
                    base = wp.cw_mul(base, sample(scene, scene.mat_texture[mat], uv))
            # the headlight, from the eye
            facing = wp.max(0.0, -wp.dot(n, ahead))
            light = wp.vec3(glow, glow, glow) + scene.head_ambient + scene.head_diffuse * facing
            gloss = wp.vec3()
            if shine > 0.0 and power > 0.0 and wp.length_sq(scene.head_specular) > 0.0:
                if facing > 0.0:
                    middle_way = wp.max(0.0, -wp.dot(n, wp.normalize(ahead + d)))
                    gloss = scene.head_specular * power_of(middle_way, power)
            for k in range(lights):
                if scene.light_active[row, k] == 0:
                    continue
                light = light + scene.light_ambient[row, k]
                kind = scene.light_type[k]
                aim = scene.light_xdir[row, k]
                toward = -aim
                reach = float(1.0e8)
                strength = float(1.0)
                if kind != wp.static(DIRECTIONAL):
                    line = scene.light_xpos[row, k] - p
                    reach = wp.length(line)
                    toward = line / wp.max(reach, 1.0e-6)
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
                caster = scene.light_caster[k]
                if caster >= 0:
                    through = float(1.0)
                    if scene.map_size > 0:
                        through = lit(scene, row, caster, p, n)
                    if blocking > 0 and through > 0.0:
                        origin = p + n * 1.0e-4
                        met = shadowed(
                            scene, row, shades, blocking, g, origin, toward, reach - 1.0e-3, last
                        )
                        if met >= 0:
                            last = met
                            through = float(0.0)
                    strength = strength * (wp.static(SHADOW) + wp.static(1.0 - SHADOW) * through)
                light = light + scene.light_diffuse[row, k] * (facing * strength)
                specular = scene.light_specular[row, k]
                if shine > 0.0 and power > 0.0 and wp.length_sq(specular) > 0.0:
                    middle_way = wp.max(0.0, wp.dot(n, wp.normalize(toward - d)))
                    gloss = gloss + specular * (strength * power_of(middle_way, power))
            colour = wp.cw_mul(base, light) + gloss * shine
        out = (y0 + i // wide) * width + x0 + i % wide
        for channel in range(3):
            rgb[row, out, channel] = wp.uint8(wp.clamp(colour[channel], 0.0, 1.0) * 255.0)
