"""Where rays meet the shapes of MuJoCo, as Warp functions in a shape's own frame.

Each takes the origins and unit directions of a tile's rays in that frame, and gives their distances (-1 for a
miss) and normals. They tell where a ray enters: one that starts inside a shape does not see it.
"""

import warp as wp

from simscaleai.rendering.kernels.lanes import PIXELS, Lanes, Points, unit


@wp.func
def inverse(x: float):
    """1 / x, huge where x is 0."""
    size = 1.0 / wp.max(wp.abs(x), 1.0e-12)
    return wp.where(x < 0.0, -size, size)


@wp.func
def hit_box(o: Points, d: Points, half: wp.vec3):
    t = Lanes()
    n = Points()
    for i in range(wp.static(PIXELS)):
        origin = o[:, i]
        r = wp.vec3(inverse(d[0, i]), inverse(d[1, i]), inverse(d[2, i]))
        a = wp.cw_mul(-half - origin, r)
        b = wp.cw_mul(half - origin, r)
        near = wp.min(a, b)
        far = wp.max(a, b)
        enter = wp.max(wp.max(near[0], near[1]), near[2])
        leave = wp.min(wp.min(far[0], far[1]), far[2])
        t[i] = wp.where(enter <= leave, enter, -1.0)
        # the side through which it enters last
        x = wp.where(near[0] >= wp.max(near[1], near[2]), 1.0, 0.0)
        y = wp.where(near[1] >= near[2], 1.0 - x, 0.0)
        n[0, i] = wp.where(r[0] < 0.0, x, -x)
        n[1, i] = wp.where(r[1] < 0.0, y, -y)
        n[2, i] = wp.where(r[2] < 0.0, 1.0 - x - y, x + y - 1.0)
    return t, n


@wp.func
def hit_plane(o: Points, d: Points, size: wp.vec3):
    """A plane z = 0 seen from above; a size of 0 is without end."""
    t = Lanes()
    n = Points()
    wide = wp.where(size[0] > 0.0, size[0], 1.0e30)
    long = wp.where(size[1] > 0.0, size[1], 1.0e30)
    for i in range(wp.static(PIXELS)):
        down = wp.max(-d[2, i], 1.0e-9)
        along = o[2, i] / down
        apart = wp.max(
            wp.abs(o[0, i] + d[0, i] * along) - wide, wp.abs(o[1, i] + d[1, i] * along) - long
        )
        t[i] = wp.where(apart <= 0.0, wp.where(d[2, i] < -1.0e-9, along, -1.0), -1.0)
        n[2, i] = 1.0
    return t, n


@wp.func
def hit_ellipsoid(o: Points, d: Points, size: wp.vec3):
    """A sphere is one with equal half axes."""
    t = Lanes()
    n = Points()
    scale = wp.vec3(1.0 / size[0], 1.0 / size[1], 1.0 / size[2])
    for i in range(wp.static(PIXELS)):
        p = wp.cw_mul(o[:, i], scale)
        q = wp.cw_mul(d[:, i], scale)
        a = wp.dot(q, q)
        b = wp.dot(p, q)
        inside = b * b - a * (wp.dot(p, p) - 1.0)
        along = (-b - wp.sqrt(wp.max(inside, 0.0))) / a
        t[i] = wp.where(inside >= 0.0, along, -1.0)
        n[:, i] = unit(wp.cw_mul(p + q * along, scale))
    return t, n


@wp.func
def hit_cylinder(o: Points, d: Points, radius: float, half: float):
    t = Lanes()
    n = Points()
    for i in range(wp.static(PIXELS)):
        inside, enter, leave = around_axis(o[:, i], d[:, i], radius)
        r = inverse(d[2, i])
        a = (-half - o[2, i]) * r
        b = (half - o[2, i]) * r
        end = wp.min(a, b)
        first = wp.max(enter, end)
        through = wp.min(wp.min(leave, wp.max(a, b)) - first, inside)
        t[i] = wp.where(through >= 0.0, first, -1.0)
        p = (o[:, i] + d[:, i] * first) / radius
        side = wp.where(enter >= end, 1.0, 0.0)
        n[0, i] = p[0] * side
        n[1, i] = p[1] * side
        n[2, i] = wp.where(d[2, i] > 0.0, side - 1.0, 1.0 - side)
    return t, n


@wp.func
def hit_capsule(o: Points, d: Points, radius: float, half: float):
    t = Lanes()
    n = Points()
    for i in range(wp.static(PIXELS)):
        inside, enter, _leave = around_axis(o[:, i], d[:, i], radius)
        # where it is not the side that a ray meets first, it may be the ball at that end
        middle = wp.clamp(o[2, i] + d[2, i] * enter, -half, half)
        ball = o[:, i] - wp.vec3(0.0, 0.0, middle)
        b = wp.dot(ball, d[:, i])
        deep = b * b - wp.dot(ball, ball) + radius * radius
        along = -b - wp.sqrt(wp.max(deep, 0.0))
        t[i] = wp.where(wp.min(deep, inside) >= 0.0, along, -1.0)
        n[:, i] = (ball + d[:, i] * along) / radius
    return t, n


@wp.func
def around_axis(o: wp.vec3, d: wp.vec3, radius: float):
    """Where a line enters and leaves an endless cylinder, if the first of the three is not negative."""
    a = wp.max(d[0] * d[0] + d[1] * d[1], 1.0e-12)
    b = o[0] * d[0] + o[1] * d[1]
    inside = b * b - a * (o[0] * o[0] + o[1] * o[1] - radius * radius)
    root = wp.sqrt(wp.max(inside, 0.0))
    return inside, (-b - root) / a, (-b + root) / a
