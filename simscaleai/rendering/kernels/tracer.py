"""The ray tracer: one Warp kernel, which draws pictures tile by tile of 8 x 8 pixels.

Meshes are rasterized (`kernels.raster`), here for the camera and before for the lights.
All else is met by rays, and rays of a tile go much the same way: so it is decided once for a tile which geoms
they can meet, by bounds and the cone around them, and which geoms can cast a shadow into what it
sees. Most rays are then tested against one or two geoms, all rays of the tile at once (`kernels.lanes`).
Shading is MuJoCo's: spot, point and directional lights, a headlight, shadows, highlights, textures and a sky.
"""

import warp as wp

from simscaleai.rendering.kernels.lanes import OPTIONS, PIXELS, Lanes, Names, Points
from simscaleai.rendering.kernels.lighting import Picked, headlight, shades_of, shine_on
from simscaleai.rendering.kernels.materials import look_up
from simscaleai.rendering.kernels.meeting import hit
from simscaleai.rendering.kernels.raster import (
    Scratch,
    Strip,
    bin_meshes,
    first_pixel,
    nearest,
    strip_of,
)
from simscaleai.rendering.kernels.scene import PLANE, Scene, bound, colour_of, extent
from simscaleai.rendering.loading import TILE

wp.set_module_options(OPTIONS)


@wp.func
def slopes(strip: Strip, x: float, y: float):
    """Slopes to the right and up of the ray through a point of the picture, in pixels from its corner."""
    return (x - strip.middle[0]) * strip.pixel, (strip.middle[1] - y) * strip.pixel


@wp.func
def rays(strip: Strip, x0: int, y0: int):
    """Unit directions from the eye to a tile's pixels, and how deep one metre along each is."""
    d = Points()
    deep = Lanes()
    left, top = slopes(strip, float(x0) + 0.5, float(y0) + 0.5)
    for i in range(wp.static(PIXELS)):
        x = left + float(i % wp.static(TILE)) * strip.pixel
        y = top - float(i // wp.static(TILE)) * strip.pixel
        z = 1.0 / wp.sqrt(1.0 + x * x + y * y)
        d[:, i] = strip.turn @ wp.vec3(x * z, y * z, -z)
        deep[i] = z
    return d, deep


@wp.func
def candidates(scene: Scene, strip: Strip, x0: int, y0: int):
    """The geoms, no meshes, that rays through a tile may meet, and how many."""
    left, top = slopes(strip, float(x0), float(y0))
    right, bottom = slopes(strip, float(x0 + wp.static(TILE)), float(y0 + wp.static(TILE)))
    # the cone around them
    axis = wp.normalize(wp.vec3(0.5 * (left + right), 0.5 * (top + bottom), -1.0))
    cosine = wp.dot(axis, wp.normalize(wp.vec3(left, top, -1.0)))
    cosine = wp.min(cosine, wp.dot(axis, wp.normalize(wp.vec3(right, top, -1.0))))
    cosine = wp.min(cosine, wp.dot(axis, wp.normalize(wp.vec3(left, bottom, -1.0))))
    cosine = wp.min(cosine, wp.dot(axis, wp.normalize(wp.vec3(right, bottom, -1.0))))
    sine = wp.sqrt(wp.max(0.0, 1.0 - cosine * cosine))
    axis = strip.turn @ axis
    picked = Picked()
    count = int(0)
    for k in range(scene.simple.shape[0]):
        g = scene.simple[k]
        if colour_of(scene, strip.row, g)[3] == 0.0:
            continue
        if scene.geom_type[g] == wp.static(PLANE):
            # it is met by the steepest ray of the cone, if by any; one straight down meets it
            outward = scene.geom_xmat[strip.row, g] @ wp.vec3(0.0, 0.0, 1.0)
            if wp.dot(strip.eye - scene.geom_xpos[strip.row, g], outward) <= 0.0:
                continue
            steep = -wp.dot(axis, outward)
            steepest = steep * cosine + wp.sqrt(wp.max(0.0, 1.0 - steep * steep)) * sine
            if steep < cosine and steepest <= 0.0:
                continue
        else:
            middle, radius = bound(scene, strip.row, g)
            v = middle - strip.eye
            # apart from the cone, if there is a plane between: the one that touches it on this side
            along = wp.dot(v, axis)
            beside = v - along * axis
            side = wp.normalize(beside) * cosine - axis * sine
            if wp.dot(v, side) > wp.min(radius, extent(scene, strip.row, g, side)):
                continue
        picked[count] = g
        count += 1
    return picked, count


@wp.kernel
def draw(
    scene: Scene,
    scratch: Scratch,
    rows: wp.array(dtype=int),
    first: int,
    strips: int,
    camera: int,
    width: int,
    height: int,
    pixel: float,
    middle: wp.vec2,
    rgb: wp.array3d(dtype=wp.uint8),
    depth: wp.array2d(dtype=float),
    geoms: wp.array2d(dtype=int),
):
    """Draw strip first + tid of pictures, counted over `rows` and then over the strips of a picture.

    `pixel` is a pixel's size at distance 1, and `middle` where the optical axis is, in pixels. `rgb` is
    (n, H * W, 3), `depth` and `geoms` are (n, H * W); those that are empty are not wanted.
    """
    work = first + wp.tid()
    row = rows[work // strips]
    eye = scene.cam_xpos[row, camera]
    turn = scene.cam_xmat[row, camera]
    strip = strip_of(row, eye, turn, pixel, middle, width, height, work % strips, strips)
    bin_meshes(scene, scratch, strip)
    for tile in range(strip.tiles):
        x0, y0 = first_pixel(strip, tile)
        wide = wp.min(wp.static(TILE), width - x0)
        high = wp.min(wp.static(TILE), height - y0)
        d, deep = rays(strip, x0, y0)
        near, seen = nearest(scratch, tile, x0, y0, 1.0 / scene.far)
        nearby, count = candidates(scene, strip, x0, y0)
        t, n, who, face = meet(scene, scratch, strip, nearby, count, d, deep, near, seen)
        for y in range(high):
            for x in range(wide):
                i = y * wp.static(TILE) + x
                at = (y0 + y) * width + x0 + x
                if geoms.shape[0] > 0:
                    geoms[row, at] = who[i]
                if depth.shape[0] > 0:
                    depth[row, at] = wp.where(who[i] >= 0, t[i] * deep[i], 0.0)
        if rgb.shape[0] > 0:
            colour = shade(scene, strip, d, t, n, who, face)
            for y in range(high):
                for x in range(wide):
                    at = (y0 + y) * width + x0 + x
                    for channel in range(3):
                        value = colour[channel, y * wp.static(TILE) + x]
                        rgb[row, at, channel] = wp.uint8(value)


@wp.func
def meet(
    scene: Scene,
    scratch: Scratch,
    strip: Strip,
    nearby: Picked,
    count: int,
    d: Points,
    deep: Lanes,
    near: Lanes,
    seen: Names,
):
    """What each ray meets: the face of a mesh that was seen, unless another geom is nearer.

    Those geoms are `nearby`, `count` of them.

    Returns distances, normals of geoms that are no meshes, geoms, -1 for none, and faces of meshes.
    """
    t = Lanes()
    n = Points()
    who = Names(-1)
    face = Names()
    origin = Points()
    for i in range(wp.static(PIXELS)):
        t[i] = 1.0 / (near[i] * deep[i])
        origin[:, i] = strip.eye
    for i in range(wp.static(PIXELS)):
        if seen[i] >= 0:
            who[i] = scratch.faces[seen[i]].geom
            face[i] = scratch.faces[seen[i]].number
    for k in range(count):
        g = nearby[k]
        along, normal = hit(scene, strip.row, g, origin, d)
        frame = scene.geom_xmat[strip.row, g]
        for i in range(wp.static(PIXELS)):
            nearer = along[i] > 0.0 and along[i] < t[i]
            t[i] = wp.where(nearer, along[i], t[i])
            who[i] = wp.where(nearer, g, who[i])
            n[:, i] = wp.where(nearer, frame @ normal[:, i], n[:, i])
    return t, n, who, face


@wp.func
def shade(scene: Scene, strip: Strip, d: Points, t: Lanes, n: Points, who: Names, face: Names):
    """Colours, 0 to 255, of what was met."""
    p = Points()
    low = wp.vec3(1.0e8, 1.0e8, 1.0e8)
    up = -low
    for i in range(wp.static(PIXELS)):
        q = strip.eye + d[:, i] * t[i]
        p[:, i] = q
        low = wp.min(low, wp.where(who[i] >= 0, q, low))
        up = wp.max(up, wp.where(who[i] >= 0, q, up))
    met = up[0] >= low[0]
    colour, glow, shine, power, n = look_up(scene, strip.row, strip.eye, d, t, who, face, n)
    light = Points()
    gloss = Points()
    if met:
        ahead = strip.turn @ wp.vec3(0.0, 0.0, -1.0)
        light, gloss = headlight(scene, ahead, d, n, glow, shine, power)
        shades, hiding = shades_of(scene, strip.row, 0.5 * (low + up), 0.5 * wp.length(up - low))
        for k in range(scene.light_type.shape[0]):
            if scene.light_active[strip.row, k] != 0:
                light, gloss = shine_on(
                    scene, strip.row, k, shades, hiding, p, d, who, n, shine, power, light, gloss
                )
    for i in range(wp.static(PIXELS)):
        lit = wp.cw_mul(colour[:, i], light[:, i]) + gloss[:, i]
        lit = wp.where(who[i] >= 0, lit, colour[:, i])
        for j in range(3):
            colour[j, i] = wp.clamp(lit[j], 0.0, 1.0) * 255.0
    return colour
