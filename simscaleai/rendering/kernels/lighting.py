"""How light falls on what a tile's pixels see: MuJoCo's headlight and lights, highlights and shadows."""

import warp as wp

from simscaleai.rendering.kernels.lanes import PIXELS, Lanes, Names, Points, raised, unit
from simscaleai.rendering.kernels.meeting import hit
from simscaleai.rendering.kernels.scene import (
    DIRECTIONAL,
    PLANE,
    SPOT,
    Scene,
    bound,
    colour_of,
    extent,
)
from simscaleai.rendering.kernels.shadow_maps import lit
from simscaleai.rendering.loading import MAX_GEOMS

SHADOW = 0.3  # part of a light that reaches what lies in its shadow, as in MuJoCo's renderer

Picked = wp.types.vector(length=MAX_GEOMS, dtype=wp.int32)


@wp.func
def headlight(
    scene: Scene, ahead: wp.vec3, d: Points, n: Points, glow: Lanes, shine: Lanes, power: Lanes
):
    """The light and the gloss that pixels have of themselves and of the light at the eye."""
    light = Points()
    gloss = Points()
    for i in range(wp.static(PIXELS)):
        facing = wp.max(0.0, -wp.dot(n[:, i], ahead))
        own = wp.vec3(glow[i], glow[i], glow[i])
        light[:, i] = own + scene.head_ambient + scene.head_diffuse * facing
    if wp.length_sq(scene.head_specular) > 0.0:
        for i in range(wp.static(PIXELS)):
            half = wp.max(1.0e-6, -wp.dot(n[:, i], unit(ahead + d[:, i])))
            strength = shine[i] * raised(half, power[i])
            gloss[:, i] = scene.head_specular * wp.where(
                wp.dot(n[:, i], ahead) < 0.0, strength, 0.0
            )
    return light, gloss


@wp.func
def shine_on(
    scene: Scene,
    row: int,
    k: int,
    shades: Picked,
    count: int,
    p: Points,
    d: Points,
    who: Names,
    n: Points,
    shine: Lanes,
    power: Lanes,
    light: Points,
    gloss: Points,
):
    """Add to light and gloss what comes from light number k, on the points p seen in directions d.

    Geoms that may hide it are `shades`, `count` of them.
    """
    toward = Points()
    reach = Lanes()
    strength = Lanes()
    aim = scene.light_xdir[row, k]
    place = scene.light_xpos[row, k]
    fading = scene.light_fading[k]
    cutoff = scene.light_cutoff[k]
    exponent = scene.light_exponent[k]
    kind = scene.light_type[k]
    if kind == wp.static(DIRECTIONAL):
        for i in range(wp.static(PIXELS)):
            toward[:, i] = -aim
            reach[i] = 1.0e8
            strength[i] = 1.0
    else:
        if kind != wp.static(SPOT):
            cutoff = float(-2.0)
            exponent = float(0.0)
        for i in range(wp.static(PIXELS)):
            line = place - p[:, i]
            far = wp.max(wp.length(line), 1.0e-6)
            line = line / far
            inner = -wp.dot(line, aim)
            fall = raised(wp.max(inner, 1.0e-6), exponent)
            fall = fall / (fading[0] + far * (fading[1] + far * fading[2]))
            toward[:, i] = line
            reach[i] = far
            strength[i] = wp.where(inner < cutoff, 0.0, fall)
    for i in range(wp.static(PIXELS)):
        strength[i] = wp.where(wp.dot(n[:, i], toward[:, i]) > 0.0, strength[i], 0.0)
    caster = scene.light_caster[k]
    if caster >= 0:
        through = Lanes(1.0)
        if scene.map_size > 0:
            through = lit(scene, row, caster, p, n)
        if count > 0:
            through = wp.cw_mul(
                through, unhidden(scene, row, shades, count, p, n, who, toward, reach)
            )
        for i in range(wp.static(PIXELS)):
            strength[i] = strength[i] * (wp.static(SHADOW) + wp.static(1.0 - SHADOW) * through[i])
    ambient = scene.light_ambient[row, k]
    diffuse = scene.light_diffuse[row, k]
    for i in range(wp.static(PIXELS)):
        facing = wp.dot(n[:, i], toward[:, i])
        light[:, i] = light[:, i] + ambient + diffuse * (facing * strength[i])
    specular = scene.light_specular[row, k]
    if wp.length_sq(specular) > 0.0:
        for i in range(wp.static(PIXELS)):
            half = wp.max(1.0e-6, wp.dot(n[:, i], unit(toward[:, i] - d[:, i])))
            gloss[:, i] = gloss[:, i] + specular * (strength[i] * shine[i] * raised(half, power[i]))
    return light, gloss


@wp.func
def unhidden(
    scene: Scene,
    row: int,
    shades: Picked,
    count: int,
    p: Points,
    n: Points,
    who: Names,
    toward: Points,
    reach: Lanes,
):
    """1 for the points that are in no shadow of geoms which are no meshes, and 0 for the others."""
    through = Lanes(1.0)
    start = Points()
    for i in range(wp.static(PIXELS)):
        start[:, i] = p[:, i] + n[:, i] * 1.0e-4
    for k in range(count):
        g = shades[k]
        t, _n = hit(scene, row, g, start, toward)
        for i in range(wp.static(PIXELS)):
            # a geom is convex: its lit side is not in its own shadow
            meets = t[i] > 0.0 and t[i] < reach[i] - 1.0e-3 and who[i] != g
            through[i] = wp.where(meets, 0.0, through[i])
    return through


@wp.func
def shades_of(scene: Scene, row: int, centre: wp.vec3, spread: float):
    """The geoms, no meshes, that can cast a shadow on what is within `spread` of `centre`, and how many."""
    shades = Picked()
    count = int(0)
    for j in range(scene.simple.shape[0]):
        g = scene.simple[j]
        if colour_of(scene, row, g)[3] == 0.0:
            continue
        hides = int(0)
        for k in range(scene.light_type.shape[0]):
            if scene.light_caster[k] >= 0 and scene.light_active[row, k] != 0:
                line = centre - scene.light_xpos[row, k]
                if scene.light_type[k] == wp.static(DIRECTIONAL):
                    line = scene.light_xdir[row, k] * 1.0e3
                hides += near_line(scene, row, g, centre, line, spread)
        if hides > 0:
            shades[count] = g
            count += 1
    return shades, count


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
