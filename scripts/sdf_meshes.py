"""Signed distance functions, and triangle meshes of their surfaces; used by `build_panda_meshes.py`.

A signed distance function (SDF) takes points (n, 3) in meters and returns distances (n,), negative inside.
Marching cubes turns one into triangles, quadric decimation reduces their number, Newton steps move the
vertices back to the exact surface, and the gradient of the function gives exact normals.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import fast_simplification
import numpy as np
from skimage.measure import marching_cubes

Array = np.ndarray
Mesh = tuple[Array, Array, Array]  # vertices (n, 3) m, unit normals (n, 3), faces (m, 3)
Sdf = Callable[[Array], Array]  # (n, 3) points in meters -> (n,) signed distance, negative inside


# --- primitives and operators ---------------------------------------------------------------------------


def axis(name: str) -> tuple[int, int, int]:
    """Return (along, across, across) column indices for axis "x", "y" or "z"."""
    along = "xyz".index(name)
    return along, (along + 1) % 3, (along + 2) % 3


def cylinder(
    name: str, lo: float, hi: float, radius: float, fillet: float, at=(0.0, 0.0, 0.0)
) -> Sdf:
    """Cylinder along an axis from lo to hi, its edges rounded by fillet, its axis through `at`."""
    i, j, k = axis(name)

    def f(p: Array) -> Array:
        across = np.hypot(p[:, j] - at[j], p[:, k] - at[k]) - radius + fillet
        along = np.abs(p[:, i] - (lo + hi) / 2) - (hi - lo) / 2 + fillet
        outside = np.hypot(np.maximum(across, 0), np.maximum(along, 0))
        return outside + np.minimum(np.maximum(across, along), 0) - fillet

    return f


def box(lo, hi, fillet: float) -> Sdf:
    """Axis-aligned box between two corners, its edges rounded by fillet."""
    lo, hi = np.asarray(lo, float), np.asarray(hi, float)

    def f(p: Array) -> Array:
        q = np.abs(p - (lo + hi) / 2) - (hi - lo) / 2 + fillet
        outside = np.linalg.norm(np.maximum(q, 0), axis=1)
        return outside + np.minimum(q.max(axis=1), 0) - fillet

    return f


def tube(*knots: tuple[float, float, float, float]) -> Sdf:
    """Smooth tube (Catmull-Rom) through knots (x, y, z, radius); its ends are round."""
    k = np.array([2 * np.array(knots[0]) - knots[1], *knots, 2 * np.array(knots[-1]) - knots[-2]])
    t = np.linspace(0, 1, 8, endpoint=False)[:, None]
    path = [
        b
        + t * (c - a) / 2
        + t**2 * (a - 2.5 * b + 2 * c - d / 2)
        + t**3 * (1.5 * (b - c) + (d - a) / 2)
        for a, b, c, d in zip(k, k[1:], k[2:], k[3:], strict=False)
    ]
    points = np.concatenate([*path, k[-2:-1]])

    def f(p: Array) -> Array:
        out = np.full(len(p), np.inf)
        for start, end in itertools.pairwise(points):
            span, to = end[:3] - start[:3], p - start[:3]
            along = np.clip(to @ span / (span @ span), 0, 1)
            radius = start[3] + along * (end[3] - start[3])
            out = np.minimum(out, np.linalg.norm(to - along[:, None] * span, axis=1) - radius)
        return out

    return f


def disc(center, normal, radius: float, half: float, fillet: float) -> Sdf:
    """Cylinder of any direction: half thickness `half` along `normal`."""
    center, normal = np.asarray(center, float), np.asarray(normal, float)
    normal = normal / np.linalg.norm(normal)

    def f(p: Array) -> Array:
        along = (p - center) @ normal
        across = np.linalg.norm(p - center - along[:, None] * normal, axis=1) - radius + fillet
        along = np.abs(along) - half + fillet
        outside = np.hypot(np.maximum(across, 0), np.maximum(along, 0))
        return outside + np.minimum(np.maximum(across, along), 0) - fillet

    return f


def half_space(normal, offset: float) -> Sdf:
    """Points with normal . p <= offset."""
    normal = np.asarray(normal, float) / np.linalg.norm(normal)
    return lambda p: p @ normal - offset


def smooth_min(k: float, *distances: Array) -> Array:
    """Polynomial smooth minimum with blend width k."""
    out = distances[0]
    for d in distances[1:]:
        h = np.maximum(k - np.abs(out - d), 0) / k
        out = np.minimum(out, d) - h * h * k / 4
    return out


def union(k: float, *parts: Sdf) -> Sdf:
    """Blend parts over a width k."""
    return lambda p: smooth_min(k, *(f(p) for f in parts))


def keep(k: float, part: Sdf, *limits: Sdf) -> Sdf:
    """The part inside all limits, with edges rounded over a width k."""
    return lambda p: -smooth_min(k, -part(p), *(-f(p) for f in limits))


def cut(k: float, part: Sdf, *holes: Sdf) -> Sdf:
    """The part outside all holes, with edges rounded over a width k."""
    return lambda p: -smooth_min(k, -part(p), *(f(p) for f in holes))


# --- the arm ----------------------------------------------------------------------------------------------
# The Panda's links are pipe elbows: each carries one half of the barrel around the joint it shares with the
# next link, and a stem along the next axis. White shells never touch; dark cores show in the seams.


def lathe(
    name: str, profile: list[tuple[float, float]], at=(0.0, 0.0, 0.0), segments: int = 40
) -> Mesh:
    """Turn a closed profile of (radius, along) points, inside on its left, around an axis through `at`."""
    i, j, k = axis(name)
    angle = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    spokes = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points, normals, faces = [], [], []
    for (r0, a0), (r1, a1) in zip(profile, profile[1:] + profile[:1], strict=True):
        if r0 == r1 == 0:
            continue
        slope = np.array([a1 - a0, r0 - r1]) / np.hypot(r1 - r0, a1 - a0)  # outward (radial, along)
        first = 2 * segments * len(points)
        quad, normal = np.zeros((2, segments, 3)), np.zeros((2, segments, 3))
        for row, (r, along) in enumerate(((r0, a0), (r1, a1))):
            quad[row][:, [j, k]], quad[row][:, i] = r * spokes, along
            normal[row][:, [j, k]], normal[row][:, i] = slope[0] * spokes, slope[1]
        points.append(quad.reshape(-1, 3) + at)
        normals.append(normal.reshape(-1, 3))
        here = first + np.arange(segments)
        there = first + (np.arange(segments) + 1) % segments
        if r0 > 0:
            faces.append(np.stack([here, there, here + segments], axis=1))
        if r1 > 0:
            faces.append(np.stack([there, there + segments, here + segments], axis=1))
    return np.concatenate(points), np.concatenate(normals), np.concatenate(faces)


def block(lo, hi, fillet: float) -> Mesh:
    """Axis-aligned box between two corners with rounded edges: a cube-sphere pulled apart."""
    lo, hi = np.asarray(lo, float), np.asarray(hi, float)
    line = np.tan(np.pi / 4 * np.array([-1, -0.5, -0.001, 0.001, 0.5, 1]))
    size = len(line)
    u, v = (g.ravel() for g in np.meshgrid(line, line, indexing="ij"))
    corner = (np.arange(size - 1)[:, None] * size + np.arange(size - 1)).ravel()
    quads = np.stack([corner, corner + size, corner + size + 1, corner + 1], axis=1)
    normals, faces = [], []
    for i in range(3):
        for sign in (1, -1):
            side = np.zeros((size * size, 3))
            side[:, i], side[:, (i + 1) % 3], side[:, (i + 2) % 3] = sign, sign * u, v
            faces.append(
                np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
                + size * size * len(normals)
            )
            normals.append(side / np.linalg.norm(side, axis=1, keepdims=True))
    normal = np.concatenate(normals)
    points = (lo + hi) / 2 + fillet * normal + ((hi - lo) / 2 - fillet) * np.sign(normal)
    return points, normal, np.concatenate(faces)


def core(name: str, lo: float, hi: float, radius: float, at=(0.0, 0.0, 0.0)) -> Mesh:
    """Plain cylinder: the dark inside that shows in a seam, or a metal plate."""
    return lathe(
        name,
        [
            (0, lo),
            (radius - 0.001, lo),
            (radius, lo + 0.001),
            (radius, hi - 0.001),
            (radius - 0.001, hi),
            (0, hi),
        ],
        at,
    )


def ring(name: str, face: float, outer: float, at=(0.0, 0.0, 0.0)) -> Mesh:
    """Thin dark ring inlaid in a barrel's flat end, standing 0.3 mm proud of it."""
    lo, hi = sorted((face - np.sign(face) * 0.002, face + np.sign(face) * 0.0003))
    return lathe(name, [(outer - 0.004, lo), (outer, lo), (outer, hi), (outer - 0.004, hi)], at)


def place(mesh: Mesh, x_axis, y_axis, at=(0.0, 0.0, 0.0)) -> Mesh:
    """Move a mesh to a frame given by its x and y axes and its origin."""
    rotation = np.array([x_axis, y_axis, np.cross(x_axis, y_axis)], float)
    points, normals, faces = mesh
    return points @ rotation + at, normals @ rotation, faces


# --- triangles --------------------------------------------------------------------------------------------


def gradient(f: Sdf, p: Array, step: float = 2e-5) -> Array:
    """Central-difference gradient of f at points (n, 3)."""
    columns = [f(p + step * e) - f(p - step * e) for e in np.eye(3)]
    return np.stack(columns, axis=1) / (2 * step)


def bounds(f: Sdf) -> tuple[Array, Array]:
    """Corners of a box around the surface, found on a coarse grid."""
    line = np.arange(-0.3, 0.3, 0.006)
    grid = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    near = grid[f(grid) < 0.007]
    return near.min(axis=0) - 0.006, near.max(axis=0) + 0.006


def triangulate(f: Sdf, cell: float, triangles: int) -> tuple[Array, Array, Array]:
    """Return vertices (n, 3) and normals (n, 3) and faces (m, 3) of the surface f = 0."""
    lo, hi = bounds(f)
    lo = (
        lo - 0.37 * cell
    )  # keep the parts' flat faces off the grid planes, where slivers would grow
    lines = [np.arange(a, b + cell, cell) for a, b in zip(lo, hi, strict=True)]
    grid = np.stack(np.meshgrid(*lines, indexing="ij"), -1)
    values = np.concatenate([f(slab.reshape(-1, 3)) for slab in grid]).reshape(grid.shape[:3])
    points, faces, _, _ = marching_cubes(
        values, 0.0, spacing=(cell,) * 3, gradient_direction="descent"
    )
    points = _project(f, points + lo, cell)
    points, faces = fast_simplification.simplify(
        points.astype(np.float32), faces.astype(np.int32), target_count=triangles, agg=3
    )
    points = _project(f, points.astype(float), cell)
    return points, _shading_normals(f, points, faces, cell), faces


def _shading_normals(f: Sdf, points: Array, faces: Array, cell: float) -> Array:
    """Vertex normals: exact surface normals at the faces' middles, weighted by area.

    The exact normal at the vertex itself would smear a rounded edge over the wide flat triangle beside it.
    """
    corners = points[faces]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    slope = gradient(f, _project(f, corners.mean(axis=1), cell))
    slope *= (area / np.linalg.norm(slope, axis=1))[:, None]
    normals = gradient(f, points) * 1e-9  # for a vertex whose triangles have no area
    for column in range(3):
        np.add.at(normals, faces[:, column], slope)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _project(f: Sdf, points: Array, limit: float) -> Array:
    """Newton steps onto the surface, none longer than limit."""
    for _ in range(3):
        slope = gradient(f, points)
        length = np.maximum((slope**2).sum(axis=1), 0.25)
        points = points - np.clip(f(points) / length, -limit, limit)[:, None] * slope
    return points
