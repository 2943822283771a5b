"""How far lights go: pictures of the meshes as the lights see them that cast shadows.

A map is as wide as all meshes of a scene are when seen from the light, so that its pixels are fine however
wide the light shines. What is no mesh casts its shadow by rays (`kernels.lighting`).

Trap: a light among the meshes sees those within 76 degrees of the line to their middle only.
"""

import warp as wp

from simscaleai.rendering.kernels.lanes import OPTIONS, PIXELS, Lanes, Points
from simscaleai.rendering.kernels.raster import (
    NEAR,
    Scratch,
    bin_meshes,
    first_pixel,
    nearest,
    strip_of,
)
from simscaleai.rendering.kernels.scene import DIRECTIONAL, Scene, bound
from simscaleai.rendering.loading import TILE

wp.set_module_options(OPTIONS)

WIDEST = 4.0  # half of a map at distance 1
DISTANCE = 20.0  # from where a directional light is taken to shine, in extents of the scene


@wp.func
def aim(scene: Scene, row: int, which: int):
    """Where shadow map number `which` is seen from, along which axes, and its pixels' size at distance 1."""
    low = wp.vec3(1.0e8, 1.0e8, 1.0e8)
    up = -low
    for i in range(scene.meshes.shape[0]):
        middle, radius = bound(scene, row, scene.meshes[i])
        around = wp.vec3(radius, radius, radius)
        low = wp.min(low, middle - around)
        up = wp.max(up, middle + around)
    centre = 0.5 * (low + up)
    light = scene.map_light[which]
    place = scene.light_xpos[row, light]
    if scene.light_type[light] == wp.static(DIRECTIONAL):
        place = centre - scene.light_xdir[row, light] * (wp.static(DISTANCE) * scene.stat_extent)
    back = wp.normalize(place - centre)
    side = wp.where(wp.abs(back[2]) < 0.9, wp.vec3(0.0, 0.0, 1.0), wp.vec3(1.0, 0.0, 0.0))
    across = wp.normalize(wp.cross(side, back))
    axes = wp.matrix_from_cols(across, wp.cross(back, across), back)
    half = float(0.0)
    for i in range(scene.meshes.shape[0]):
        middle, radius = bound(scene, row, scene.meshes[i])
        v = wp.transpose(axes) @ (middle - place)
        ahead = -v[2] - radius
        beside = wp.max(wp.abs(v[0]), wp.abs(v[1])) + radius
        wide = wp.where(
            ahead * wp.static(WIDEST) > beside, beside / wp.max(ahead, 1.0e-6), wp.static(WIDEST)
        )
        half = wp.max(half, wide)
    return place, axes, 2.0 * half / float(scene.map_size)


@wp.kernel
def draw_maps(scene: Scene, scratch: Scratch, rows: wp.array(dtype=int), first: int, strips: int):
    """Draw strip first + tid of shadow maps, counted over `rows`, their maps and then the strips of a map."""
    lights = scene.map_xpos.shape[1]
    work = first + wp.tid()
    row = rows[work // (strips * lights)]
    which = work // strips % lights
    number = work % strips
    eye, turn, pixel = aim(scene, row, which)
    if number == 0:
        scene.map_xpos[row, which] = eye
        scene.map_xmat[row, which] = turn
        scene.map_pixel[row, which] = pixel
    size = scene.map_size
    middle = wp.vec2(0.5 * float(size), 0.5 * float(size))
    strip = strip_of(row, eye, turn, pixel, middle, size, size, number, strips)
    bin_meshes(scene, scratch, strip)
    for tile in range(strip.tiles):
        x0, y0 = first_pixel(strip, tile)
        near, _seen = nearest(scratch, tile, x0, y0, 0.0)
        for y in range(wp.min(wp.static(TILE), size - y0)):
            for x in range(wp.min(wp.static(TILE), size - x0)):
                at = (y0 + y) * size + x0 + x
                scene.map_nearness[row * lights + which, at] = near[y * wp.static(TILE) + x]


@wp.func
def lit(scene: Scene, row: int, caster: int, p: Points, n: Points):
    """How much of the light number `caster` meshes let through to p with normals n, 0 to 1.

    Four places of the shadow map around each are asked, as the filter of a graphics card does. A point is
    moved off its surface by some of the map's pixels, or it would lie in its own shadow.
    """
    through = Lanes()
    pixel = scene.map_pixel[row, caster]
    turn = wp.transpose(scene.map_xmat[row, caster])
    eye = scene.map_xpos[row, caster]
    size = scene.map_size
    slot = row * scene.map_xpos.shape[1] + caster
    middle = 0.5 * float(size) - 0.5
    for i in range(wp.static(PIXELS)):
        v = p[:, i] - eye
        q = turn @ (v + n[:, i] * (2.0 * pixel * wp.length(v)))
        near = 1.0 / wp.max(-q[2], wp.static(NEAR))
        x = middle + q[0] * near / pixel
        y = middle - q[1] * near / pixel
        # what is beside the map is lit
        apart = wp.max(wp.abs(x - middle), wp.abs(y - middle))
        inside = apart < middle and q[2] < -wp.static(NEAR)
        column = wp.where(inside, int(x), 0)
        line = wp.where(inside, int(y), 0)
        fx = x - float(column)
        fy = y - float(line)
        at = line * size + column
        near = near * (1.0 + pixel)
        top = wp.where(scene.map_nearness[slot, at] <= near, 1.0 - fx, 0.0)
        top += wp.where(scene.map_nearness[slot, at + 1] <= near, fx, 0.0)
        low = wp.where(scene.map_nearness[slot, at + size] <= near, 1.0 - fx, 0.0)
        low += wp.where(scene.map_nearness[slot, at + size + 1] <= near, fx, 0.0)
        through[i] = wp.where(inside, top * (1.0 - fy) + low * fy, 1.0)
    return through
