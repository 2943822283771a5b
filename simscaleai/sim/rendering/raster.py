"""Which face of which mesh each pixel sees, without rays: faces are drawn, and the nearest one stays.

A face is drawn by the sign of three linear functions of a pixel's direction d: d is a sum of the corners
a, b, c (seen from the eye) with weights d . (b x c), d . (c x a), d . (a x b) over the volume a . (b x c), all
positive inside. The sum of these weights is the inverse of the depth, so what lies behind the eye needs no
clipping (M. Olano, T. Greer, "Triangle scan conversion using 2D homogeneous coordinates", 1997).

The same serves a camera and a light, whose picture says how far its light goes: a shadow map.

Trap: a launch keeps corners in `Scratch`, and faces of a pixel are compared one after the other; so it must
run on one CPU thread.
"""

import warp as wp

from simscaleai.sim.rendering.scene import MESH, Scene, Scratch, bound, colour_of

wp.set_module_options({"enable_backward": False, "fast_math": True})

NEAR = 1.0e-4  # m; what is nearer than this has no place in the picture that could be computed


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
    """Draw strip first + tid, counted over `rows` and then over the `strips` of `strip` lines of a picture.

    It is the picture of the eye eyes[row, which], for which pixels[row, which] is a pixel's size at distance 1.
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
            # of a pixel's middle: its number
            scale = -inverse / p[2]
            scratch.spot[i] = wp.vec2(middle_x - 0.5 + p[0] * scale, middle_y - 0.5 - p[1] * scale)
        start = scene.geom_face[g]
        for i in range(scene.geom_faces[g]):
            face = scene.mesh_faces[start + i]
            sa = scratch.spot[face[0]]
            sb = scratch.spot[face[1]]
            sc = scratch.spot[face[2]]
            a = scratch.corner[face[0]]
            b = scratch.corner[face[1]]
            c = scratch.corner[face[2]]
            x0 = 0
            x1 = width - 1
            y0 = top
            y1 = bottom - 1
            if wp.max(wp.max(a[2], b[2]), c[2]) < -wp.static(NEAR):
                # clamped before it becomes an integer, which a far place does not fit into
                x0 = int(wp.ceil(wp.max(wp.min(wp.min(sa[0], sb[0]), sc[0]), 0.0)))
                x1 = int(wp.floor(wp.min(wp.max(wp.max(sa[0], sb[0]), sc[0]), float(x1)) + 1.0)) - 1
                y0 = int(wp.ceil(wp.max(wp.min(wp.min(sa[1], sb[1]), sc[1]), float(y0))))
                y1 = int(wp.floor(wp.min(wp.max(wp.max(sa[1], sb[1]), sc[1]), float(y1)) + 1.0)) - 1
            elif wp.min(wp.min(a[2], b[2]), c[2]) >= 0.0:
                continue
            if x0 > x1 or y0 > y1:
                continue
            wa = wp.cross(b, c)
            volume = wp.dot(a, wa)
            if volume >= 0.0:
                continue  # it shows its back
            wb = wp.cross(c, a)
            wc = wp.cross(a, b)
            share = 1.0 / volume
            for y in range(y0, y1 + 1):
                dy = (middle_y - 0.5 - float(y)) * pixel
                for x in range(x0, x1 + 1):
                    dx = (float(x) - middle_x + 0.5) * pixel
                    pa = wa[0] * dx + wa[1] * dy - wa[2]
                    pb = wb[0] * dx + wb[1] * dy - wb[2]
                    pc = wc[0] * dx + wc[1] * dy - wc[2]
                    if pa <= 0.0 and pb <= 0.0 and pc <= 0.0:
                        near = (pa + pb + pc) * share
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
