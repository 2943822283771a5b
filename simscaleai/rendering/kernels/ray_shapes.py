"""Ray intersections with the geom types of MuJoCo, in the frame of the geom.

Each function takes origins and unit directions of a tile's rays, (3, 64), and returns distances, (64,), -1
for a miss, and unit normals, (3, 64). Distances are to where a ray enters: a ray that starts inside a shape
misses it (back-face culling). Branches are `wp.where`, so that the loops vectorize.
"""

import warp as wp

from simscaleai.rendering.kernels.tile_types import PIXELS, TileFloat, TileVec3, normalized


@wp.func
def safe_inverse(x: float):
    """Return 1 / x, and 1e12 for x = 0."""
    size = 1.0 / wp.max(wp.abs(x), 1.0e-12)
    return wp.where(x < 0.0, -size, size)


@wp.func
def ray_box(o: TileVec3, d: TileVec3, half: wp.vec3):
    """Intersect a box of half sizes `half` by the slab method."""
    t = TileFloat()
    n = TileVec3()
    for i in range(wp.static(PIXELS)):
        origin = o[:, i]
        r = wp.vec3(safe_inverse(d[0, i]), safe_inverse(d[1, i]), safe_inverse(d[2, i]))
        # distances to the two planes of each axis
        a = wp.cw_mul(-half - origin, r)
        b = wp.cw_mul(half - origin, r)
        near = wp.min(a, b)
        far = wp.max(a, b)
        # inside the box where the ray is between the planes of all three axes
        enter = wp.max(wp.max(near[0], near[1]), near[2])
        leave = wp.min(wp.min(far[0], far[1]), far[2])
        t[i] = wp.where(enter <= leave, enter, -1.0)
        # the normal is that of the plane crossed last, against the ray
        x = wp.where(near[0] >= wp.max(near[1], near[2]), 1.0, 0.0)
        y = wp.where(near[1] >= near[2], 1.0 - x, 0.0)
        n[0, i] = wp.where(r[0] < 0.0, x, -x)
        n[1, i] = wp.where(r[1] < 0.0, y, -y)
        n[2, i] = wp.where(r[2] < 0.0, 1.0 - x - y, x + y - 1.0)
    return t, n


@wp.func
def ray_plane(o: TileVec3, d: TileVec3, size: wp.vec3):
    """Intersect the plane z = 0 from above; a size of 0 is infinite, as in MuJoCo."""
    t = TileFloat()
    n = TileVec3()
    half_x = wp.where(size[0] > 0.0, size[0], 1.0e30)
    half_y = wp.where(size[1] > 0.0, size[1], 1.0e30)
    for i in range(wp.static(PIXELS)):
        down = wp.max(-d[2, i], 1.0e-9)
        along = o[2, i] / down
        # how far outside the rectangle the ray meets the plane; negative inside
        beyond = wp.max(
            wp.abs(o[0, i] + d[0, i] * along) - half_x, wp.abs(o[1, i] + d[1, i] * along) - half_y
        )
        t[i] = wp.where(beyond <= 0.0, wp.where(d[2, i] < -1.0e-9, along, -1.0), -1.0)
        n[2, i] = 1.0
    return t, n


@wp.func
def ray_ellipsoid(o: TileVec3, d: TileVec3, size: wp.vec3):
    """Intersect an ellipsoid of half axes `size`; a sphere has three equal ones."""
    t = TileFloat()
    n = TileVec3()
    scale = wp.vec3(1.0 / size[0], 1.0 / size[1], 1.0 / size[2])
    for i in range(wp.static(PIXELS)):
        # scaled by the half axes it is the unit sphere: |p + q t| = 1, so a t^2 + 2 b t + c = 0
        p = wp.cw_mul(o[:, i], scale)
        q = wp.cw_mul(d[:, i], scale)
        a = wp.dot(q, q)
        b = wp.dot(p, q)
        discriminant = b * b - a * (wp.dot(p, p) - 1.0)
        along = (-b - wp.sqrt(wp.max(discriminant, 0.0))) / a
        t[i] = wp.where(discriminant >= 0.0, along, -1.0)
        n[:, i] = normalized(wp.cw_mul(p + q * along, scale))  # gradient of the implicit function
    return t, n


@wp.func
def ray_cylinder(o: TileVec3, d: TileVec3, radius: float, half: float):
    """Intersect a cylinder along z of half length `half`."""
    t = TileFloat()
    n = TileVec3()
    for i in range(wp.static(PIXELS)):
        discriminant, enter, leave = ray_infinite_cylinder(o[:, i], d[:, i], radius)
        # the slab between the two caps
        r = safe_inverse(d[2, i])
        a = (-half - o[2, i]) * r
        b = (half - o[2, i]) * r
        cap = wp.min(a, b)
        first = wp.max(enter, cap)
        # negative where side and slab do not overlap, or the side is missed
        overlap = wp.min(wp.min(leave, wp.max(a, b)) - first, discriminant)
        t[i] = wp.where(overlap >= 0.0, first, -1.0)
        p = (o[:, i] + d[:, i] * first) / radius
        side = wp.where(enter >= cap, 1.0, 0.0)  # 1: met on the side, 0: on a cap
        n[0, i] = p[0] * side
        n[1, i] = p[1] * side
        n[2, i] = wp.where(d[2, i] > 0.0, side - 1.0, 1.0 - side)
    return t, n


@wp.func
def ray_capsule(o: TileVec3, d: TileVec3, radius: float, half: float):
    """Intersect a capsule along z whose cylinder has the half length `half`."""
    t = TileFloat()
    n = TileVec3()
    for i in range(wp.static(PIXELS)):
        discriminant, enter, _leave = ray_infinite_cylinder(o[:, i], d[:, i], radius)
        # A sphere around the axis point nearest to where the ray enters the infinite cylinder: on the
        # side it touches the cylinder in that very point, beyond an end it is the cap.
        center = wp.clamp(o[2, i] + d[2, i] * enter, -half, half)
        from_center = o[:, i] - wp.vec3(0.0, 0.0, center)
        b = wp.dot(from_center, d[:, i])
        in_sphere = b * b - wp.dot(from_center, from_center) + radius * radius
        along = -b - wp.sqrt(wp.max(in_sphere, 0.0))
        t[i] = wp.where(wp.min(in_sphere, discriminant) >= 0.0, along, -1.0)
        n[:, i] = (from_center + d[:, i] * along) / radius
    return t, n


@wp.func
def ray_infinite_cylinder(o: wp.vec3, d: wp.vec3, radius: float):
    """Return (discriminant, enter, leave) of one ray and an infinite cylinder along z.

    The distances are valid where the discriminant is not negative.
    """
    a = wp.max(d[0] * d[0] + d[1] * d[1], 1.0e-12)
    b = o[0] * d[0] + o[1] * d[1]
    discriminant = b * b - a * (o[0] * o[0] + o[1] * o[1] - radius * radius)
    root = wp.sqrt(wp.max(discriminant, 0.0))
    return discriminant, (-b - root) / a, (-b + root) / a
