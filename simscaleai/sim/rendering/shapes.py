"""Where a ray meets the shapes of MuJoCo, as Warp functions in a shape's own frame.

Each takes the ray's origin and its unit direction in that frame, and gives the distance (-1 for a miss) and
the normal. They tell where a ray enters: one that starts inside a shape does not see it.
"""

import warp as wp

wp.set_module_options({"enable_backward": False, "fast_math": True})


@wp.func
def inverse(d: wp.vec3):
    """1 / d, huge where d is 0."""
    r = wp.vec3()
    for i in range(3):
        size = wp.max(wp.abs(d[i]), 1.0e-12)
        r[i] = wp.where(d[i] < 0.0, -1.0 / size, 1.0 / size)
    return r


@wp.func
def enters_box(o: wp.vec3, d: wp.vec3, half: wp.vec3):
    """Where a line enters and leaves a box around the origin; (1, 0) for a miss."""
    r = inverse(d)
    a = wp.cw_mul(-half - o, r)
    b = wp.cw_mul(half - o, r)
    near = wp.min(a, b)
    far = wp.max(a, b)
    enter = wp.max(wp.max(near[0], near[1]), near[2])
    leave = wp.min(wp.min(far[0], far[1]), far[2])
    if enter > leave or leave < 0.0:
        return 1.0, 0.0
    return enter, leave


@wp.func
def hit_box(o: wp.vec3, d: wp.vec3, half: wp.vec3):
    enter, leave = enters_box(o, d, half)
    n = wp.vec3()
    if enter > leave or enter <= 0.0:
        return -1.0, n
    p = wp.cw_div(o + d * enter, half)
    x = wp.abs(p[0])
    y = wp.abs(p[1])
    z = wp.abs(p[2])
    if x >= y and x >= z:
        n[0] = wp.sign(p[0])
    elif y >= z:
        n[1] = wp.sign(p[1])
    else:
        n[2] = wp.sign(p[2])
    return enter, n


@wp.func
def hit_plane(o: wp.vec3, d: wp.vec3, size: wp.vec3):
    """A plane z = 0 seen from above; a size of 0 is without end."""
    up = wp.vec3(0.0, 0.0, 1.0)
    if d[2] > -1.0e-9 or o[2] <= 0.0:
        return -1.0, up
    t = -o[2] / d[2]
    p = o + d * t
    if (size[0] > 0.0 and wp.abs(p[0]) > size[0]) or (size[1] > 0.0 and wp.abs(p[1]) > size[1]):
        return -1.0, up
    return t, up


@wp.func
def hit_ellipsoid(o: wp.vec3, d: wp.vec3, size: wp.vec3):
    """A sphere is one with equal half axes."""
    p = wp.cw_div(o, size)
    q = wp.cw_div(d, size)
    a = wp.dot(q, q)
    b = wp.dot(p, q)
    inside = b * b - a * (wp.dot(p, p) - 1.0)
    if inside < 0.0:
        return -1.0, wp.vec3()
    t = (-b - wp.sqrt(inside)) / a
    return t, wp.normalize(wp.cw_div(p + q * t, size))


@wp.func
def around_axis(o: wp.vec3, d: wp.vec3, radius: float):
    """Where a line enters and leaves an endless cylinder; (1, 0) for a miss."""
    a = wp.max(d[0] * d[0] + d[1] * d[1], 1.0e-12)
    b = o[0] * d[0] + o[1] * d[1]
    inside = b * b - a * (o[0] * o[0] + o[1] * o[1] - radius * radius)
    if inside < 0.0:
        return 1.0, 0.0
    root = wp.sqrt(inside)
    return (-b - root) / a, (-b + root) / a


@wp.func
def hit_cylinder(o: wp.vec3, d: wp.vec3, radius: float, half: float):
    enter, leave = around_axis(o, d, radius)
    n = wp.vec3()
    if enter > leave:
        return -1.0, n
    r = inverse(d)
    a = (-half - o[2]) * r[2]
    b = (half - o[2]) * r[2]
    t = wp.max(enter, wp.min(a, b))
    if t > wp.min(leave, wp.max(a, b)):
        return -1.0, n
    if t == enter:
        p = o + d * t
        n = wp.vec3(p[0] / radius, p[1] / radius, 0.0)
    else:
        n = wp.vec3(0.0, 0.0, -wp.sign(d[2]))
    return t, n


@wp.func
def hit_capsule(o: wp.vec3, d: wp.vec3, radius: float, half: float):
    enter, leave = around_axis(o, d, radius)
    if enter > leave:
        return -1.0, wp.vec3()
    p = o + d * enter
    if wp.abs(p[2]) <= half:
        return enter, wp.vec3(p[0] / radius, p[1] / radius, 0.0)
    end = wp.vec3(0.0, 0.0, half * wp.sign(p[2]))
    t, n = hit_ellipsoid(o - end, d, wp.vec3(radius, radius, radius))
    return t, n
