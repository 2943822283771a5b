"""Which face of which mesh each pixel sees, without rays: faces are drawn, and the nearest one stays.

A face is drawn by the sign of three linear functions of a pixel's direction d: d is a sum of the corners
a, b, c (seen from the eye) with weights d . (b x c), d . (c x a), d . (a x b) over the volume
a . (b x c), all positive inside. The sum of these weights is the inverse of the depth, so what lies behind
the eye needs no clipping (M. Olano, T. Greer, "Triangle scan conversion using 2D homogeneous coordinates",
1997).

The same serves a camera and a light, whose picture says how far its light goes: a shadow map.

Trap: a launch keeps corners in `Scratch`, and faces of a pixel are compared one after the other; so it must
run on one CPU thread.
"""

import warp as wp

from simscaleai.sim.rendering.scene import MESH, Scene, Scratch, bound, colour_of

wp.set_module_options({"enable_backward": False, "fast_math": True})

NEAR = 1.0e-4  # m; what is nearer than this has no place in the picture that could be computed
NOWHERE = 1.0e9


@wp.kernel
def rasterize(
    scene: Scene,
    scratch: Scratch,
    rows: wp.array(dtype=int),
    first: int,
    strips: int,
    strip: int,
    eyes: wp.array2d(dtype=wp.vec3),
    turns: wp.array2d(dtype=wp.mat33),
    pixels: wp.array2d(dtype=float),
    which: int,
    views: int,
    width: int,
    height: int,
    nearness: wp.array2d(dtype=float),
    geoms: wp.array2d(dtype=int),
    faces: wp.array2d(dtype=int),
):
    """Draw strip first + tid, counted over `rows` and then over a picture's `strips`, of `strip` lines.

    It is the picture of the eye eyes[row, which], with pixels of the size pixels[row, which] at distance 1.
    A row has `views` pictures in `nearness`, (n * views, H * W), of which this is number `which` if there are
    several; it is 1 / depth, 0 for nothing. `geoms` and `faces` may be empty, if they are not wanted.
    """
    work = first + wp.tid()
    row = rows[work // strips]
    top = (work % strips) * strip
    bottom = wp.min(top + strip, height)
    eye = eyes[row, which]
    turn = turns[row, which]
    pixel = pixels[row, which]
    slot = row * views
    if views > 1:
        slot += which
    named = geoms.shape[0] > 0
    for i in range(top * width, bottom * width):
        nearness[slot, i] = 0.0
    if named:
        for i in range(top * width, bottom * width):
            geoms[slot, i] = -1
    inverse = 1.0 / pixel
    middle_x = 0.5 * float(width)
    middle_y = 0.5 * float(height)
    # where the axis is, counted in pixels' middles
    axis_x = middle_x - 0.5
    axis_y = middle_y - 0.5
    # slopes of the strip's edges, and the lengths of the normals of the planes through them
    right = middle_x * pixel
    upper = (middle_y - float(top)) * pixel
    lower = (middle_y - float(bottom)) * pixel
    right_length = wp.sqrt(1.0 + right * right)
    upper_length = wp.sqrt(1.0 + upper * upper)
    lower_length = wp.sqrt(1.0 + lower * lower)
    for k in range(scene.visible.shape[0]):
        g = scene.visible[k]
        if scene.geom_type[g] != wp.static(MESH) or colour_of(scene, row, g)[3] == 0.0:
            continue
        centre, radius = bound(scene, row, g)
        v = wp.transpose(turn) @ (centre - eye)
        if (
            v[2] > radius
            or wp.abs(v[0]) + v[2] * right > radius * right_length
            or v[1] + v[2] * upper > radius * upper_length
            or -v[1] - v[2] * lower > radius * lower_length
        ):
            continue
        frame = wp.transpose(turn) @ scene.geom_xmat[row, g]
        origin = wp.transpose(turn) @ (scene.geom_xpos[row, g] - eye)
        vert = scene.geom_vert[g]
        for i in range(scene.geom_verts[g]):
            p = origin + frame @ scene.mesh_verts[vert + i]
            scratch.corner[i] = p
            spot = wp.vec2(wp.static(NOWHERE), 0.0)
            if p[2] < -wp.static(NEAR):
                scale = -inverse / p[2]
                spot = wp.vec2(axis_x + p[0] * scale, axis_y - p[1] * scale)
            scratch.spot[i] = spot
        start = scene.geom_face[g]
        for i in range(scene.geom_faces[g]):
            face = scene.mesh_faces[start + i]
            a = scratch.spot[face[0]]
            b = scratch.spot[face[1]]
            c = scratch.spot[face[2]]
            x0 = 0.0
            x1 = float(width - 1)
            y0 = float(top)
            y1 = float(bottom - 1)
            most = wp.max(wp.max(a[0], b[0]), c[0])
            if most < wp.static(NOWHERE):
                if (b[0] - a[0]) * (c[1] - a[1]) >= (b[1] - a[1]) * (c[0] - a[0]):
                    continue  # it shows its back
                x0 = wp.max(wp.ceil(wp.min(wp.min(a[0], b[0]), c[0])), x0)
                x1 = wp.min(wp.floor(most), x1)
                y0 = wp.max(wp.ceil(wp.min(wp.min(a[1], b[1]), c[1])), y0)
                y1 = wp.min(wp.floor(wp.max(wp.max(a[1], b[1]), c[1])), y1)
                if x0 > x1 or y0 > y1:
                    continue
            ca = scratch.corner[face[0]]
            cb = scratch.corner[face[1]]
            cc = scratch.corner[face[2]]
            wa = wp.cross(cb, cc)
            wb = wp.cross(cc, ca)
            wc = wp.cross(ca, cb)
            volume = wp.dot(ca, wa)
            if volume >= 0.0:
                continue
            sum = (wa + wb + wc) / volume
            # of the weights, which are not above 0 inside: slopes along a line and their inverses
            slope = wp.vec3(wa[0], wb[0], wc[0]) * pixel
            turning = wp.vec3()
            for j in range(3):
                turning[j] = 1.0 / wp.where(slope[j] > 0.0, slope[j], wp.min(slope[j], -1.0e-20))
            for y in range(int(y0), int(y1) + 1):
                dy = (axis_y - float(y)) * pixel
                begin = x0
                end = x1
                ra = (wa[2] - wa[1] * dy) * turning[0] + axis_x
                if slope[0] > 0.0:
                    end = wp.min(end, wp.floor(ra))
                else:
                    begin = wp.max(begin, wp.ceil(ra))
                rb = (wb[2] - wb[1] * dy) * turning[1] + axis_x
                if slope[1] > 0.0:
                    end = wp.min(end, wp.floor(rb))
                else:
                    begin = wp.max(begin, wp.ceil(rb))
                rc = (wc[2] - wc[1] * dy) * turning[2] + axis_x
                if slope[2] > 0.0:
                    end = wp.min(end, wp.floor(rc))
                else:
                    begin = wp.max(begin, wp.ceil(rc))
                if begin > end:
                    continue
                for x in range(int(begin), int(end) + 1):
                    near = sum[0] * (float(x) - axis_x) * pixel + sum[1] * dy - sum[2]
                    out = y * width + x
                    if near > nearness[slot, out]:
                        nearness[slot, out] = near
                        if named:
                            geoms[slot, out] = g
                            faces[slot, out] = i


@wp.func
def lit(scene: Scene, row: int, caster: int, p: wp.vec3, n: wp.vec3):
    """How much of the light number `caster` meshes let through to p with normal n, 0 to 1.

    Four places of the shadow map around p are asked, as the filter of a graphics card does. p is moved off
    its surface by some of the map's pixels, or it would lie in its own shadow.
    """
    pixel = scene.map_pixel[row, caster]
    turn = wp.transpose(scene.map_xmat[row, caster])
    v = p - scene.map_xpos[row, caster]
    apart = wp.length(v) * pixel
    q = turn @ (v + n * (2.0 * apart))
    if q[2] > -wp.static(NEAR):
        return 1.0
    near = -1.0 / q[2]
    size = scene.map_size
    x = 0.5 * float(size) - 0.5 + q[0] * near / pixel
    y = 0.5 * float(size) - 0.5 - q[1] * near / pixel
    if x < 0.0 or y < 0.0 or x >= float(size - 1) or y >= float(size - 1):
        return 1.0
    column = int(x)
    line = int(y)
    fx = x - float(column)
    fy = y - float(line)
    slot = row * scene.map_xpos.shape[1] + caster
    at = line * size + column
    near = near * (1.0 + pixel)
    top = wp.where(scene.map_nearness[slot, at] <= near, 1.0 - fx, 0.0)
    top += wp.where(scene.map_nearness[slot, at + 1] <= near, fx, 0.0)
    low = wp.where(scene.map_nearness[slot, at + size] <= near, 1.0 - fx, 0.0)
    low += wp.where(scene.map_nearness[slot, at + size + 1] <= near, fx, 0.0)
    return top * (1.0 - fy) + low * fy
