"""Build the visual meshes of the Panda arm in `simscaleai/sim/assets/meshes`.

Every part is a signed distance function in its link's own frame (metres): rounded cylinders, boxes and
swept tubes around the joint axes of the published Denavit-Hartenberg table, blended smoothly. Marching cubes
turns it into triangles, quadric decimation thins them, Newton steps put the vertices back on the exact
surface, and the gradient of the function gives exact normals. The result depends on this file alone.

Development tool, not part of the package:

    pip install numpy scikit-image fast-simplification
    python scripts/build_panda_meshes.py [OUTPUT_FOLDER]
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import fast_simplification
import numpy as np
from skimage.measure import marching_cubes

Array = np.ndarray
Mesh = tuple[Array, Array, Array]  # vertices (n, 3) m, unit normals (n, 3), faces (m, 3)
Sdf = Callable[[Array], Array]  # (n, 3) points in metres -> (n,) signed distance, negative inside
Part = tuple[Sdf, list[Mesh]]  # light shell, and the dark pieces

# The material's texture is a palette: light inside, dark along its edges, so one geom shows both.
SHELL_UV, DARK_UV = 0.5, 0.03
SEAM = 0.0025  # half of the gap between two white shells, where the dark core shows


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


def base() -> Part:
    """link0: round column on a foot, with the connector block behind it."""
    column = cylinder("z", -0.05, 0.15, 0.0645, 0.006)
    foot = box((-0.12, -0.088, -0.06), (0.062, 0.088, 0.018), 0.03)
    back = box((-0.138, -0.05, -0.06), (-0.02, 0.05, 0.1), 0.022)
    limits = half_space((0, 0, -1), 0), half_space((0, 0, 1), 0.138)
    plug = block((-0.1465, -0.033, 0.022), (-0.11, 0.033, 0.068), 0.005)
    return keep(0.006, union(0.05, column, foot, back), *limits), [plug]


def shoulder() -> Part:
    """link1, and link2 turned by -90 degrees about x: stem on -z, barrel of the shoulder on -y."""
    barrel = cylinder("y", -0.13, -SEAM, 0.058, 0.003)
    stem = tube(
        (0, 0, -0.26, 0.0555),
        (0, 0, -0.13, 0.0555),
        (0, -0.022, -0.065, 0.0525),
        (0, -0.055, -0.012, 0.042),
    )
    limits = half_space((0, 0, -1), 0.19), half_space((0, -1, 0), 0.115)
    partner = cylinder("y", -SEAM, 0.3, 0.062, 0.001)
    shell = cut(
        0.006, keep(0.008, keep(0.014, union(0.03, barrel, stem), limits[1]), limits[0]), partner
    )
    return shell, [
        core("y", -0.02, 0.02, 0.0535),
        ring("y", -0.115, 0.042),
        core("z", -0.1945, -0.18, 0.0525),
    ]


def elbow() -> Part:
    """link3, and link4 upside down: stem on -z, sweeping out to half a barrel at x = 0.0825 on +y."""
    at = (0.0825, 0, 0)
    barrel = cylinder("y", SEAM, 0.12, 0.053, 0.003, at)
    stem = tube(
        (0, 0, -0.19, 0.0555),
        (0, 0, -0.095, 0.0555),
        (0.012, 0.014, -0.045, 0.0525),
        (0.045, 0.04, -0.01, 0.047),
        (0.08, 0.05, 0, 0.036),
    )
    limits = half_space((0, 0, -1), 0.1205), half_space((0, 1, 0), 0.1)
    partner = cylinder("y", -0.3, SEAM, 0.057, 0.001, at)
    shell = cut(
        0.006, keep(0.008, keep(0.014, union(0.03, barrel, stem), limits[1]), limits[0]), partner
    )
    return shell, [
        core("y", -0.02, 0.02, 0.0485, at),
        ring("y", 0.1, 0.0375, at),
        core("z", -0.126, -0.11, 0.0525),
    ]


def forearm() -> Part:
    """link5: round at joint 5, tapering along its back (+y) to the barrel of joint 6."""
    spine = tube(
        (0, 0, -0.33, 0.0555),
        (0, 0, -0.225, 0.0555),
        (0, 0.016, -0.165, 0.05),
        (0, 0.043, -0.10, 0.0415),
        (0, 0.057, -0.045, 0.0375),
        (0, 0.06, 0, 0.034),
    )
    barrel = cylinder("y", 0.012, 0.13, 0.05, 0.003)
    limits = half_space((0, 0, -1), 0.2595), half_space((0, 1, 0), 0.108)
    partner = cylinder("y", -0.3, 0.012, 0.056, 0.001)
    shell = cut(
        0.006, keep(0.008, keep(0.014, union(0.03, barrel, spine), limits[1]), limits[0]), partner
    )
    return shell, [core("y", 0.0, 0.03, 0.0455), ring("y", 0.108, 0.0345)]


def wrist() -> Part:
    """link6: barrel of joint 6, and the housing of joint 7 at x = 0.088."""
    at = (0.088, 0, 0)
    barrel = cylinder("z", -0.009, 0.07, 0.05, 0.004)
    housing = cylinder("y", -0.06, 0.08, 0.0455, 0.003, at)
    arm = tube((0.005, 0, 0.018, 0.03), (0.045, 0.002, 0.012, 0.034), (0.085, 0.004, 0.006, 0.03))
    body = keep(
        0.014,
        union(0.03, barrel, arm, housing),
        half_space((0, 1, 0), 0.062),
        half_space((0, 0, 1), 0.052),
    )
    shell = keep(0.008, body, half_space((0, -1, 0), 0.048))
    return shell, [
        core("y", -0.0525, -0.04, 0.0425, at),
        ring("y", 0.062, 0.031, at),
        ring("z", 0.052, 0.0355),
    ]


def flange() -> Part:
    """link7: round housing with the button disc at 45 degrees, and the metal flange."""
    out = np.array([1, 1, 0]) / np.sqrt(2)
    housing = cylinder("z", 0.04, 0.088, 0.0445, 0.006)
    button = np.array([0, 0, 0.0715]) + 0.062 * out
    pod = disc(button - 0.022 * out, out, 0.0195, 0.024, 0.005)
    shell = keep(0.003, union(0.016, housing, pod), half_space((0, 0, -1), -0.0525))
    cap = core("x", -0.004, 0.004, 0.0135)
    return shell, [
        core("z", 0.08, 0.1065, 0.0315),
        place(cap, out, (-out[1], out[0], 0), button + 0.001 * out),
    ]


def hand() -> Part:
    """hand: flat body across y with sloping shoulders; the finger rails are dark."""
    brick = box((-0.0315, -0.1015, -0.02), (0.0315, 0.1015, 0.0585), 0.009)
    slopes = [half_space((0, side * 0.42, -0.9), 0.0155) for side in (1, -1)]
    neck = cylinder("z", 0.0015, 0.02, 0.0305, 0.003)
    rail = block((-0.0185, -0.099, 0.045), (0.0185, 0.099, 0.0655), 0.002)
    body = keep(0.012, brick, half_space((0, 0, -1), -0.006), *slopes)
    return union(0.012, body, neck), [rail, core("z", 0.0, 0.004, 0.0315)]


def finger() -> Part:
    """Both fingers: block on the rail, bent towards the fingertip; rubber pad towards y = 0."""
    foot = box((-0.0105, 0.0045, 0.0055), (0.0105, 0.0255, 0.0225), 0.003)
    bend = tube((0, 0.0165, 0.02, 0.0068), (0, 0.009, 0.038, 0.0058), (0, 0.0075, 0.056, 0.0052))
    stage = box((-0.0095, 0.0015, 0.01), (0.0095, 0.03, 0.0535), 0.002)
    tip = keep(0.003, lambda p: bend(p * [0.3, 1, 1]), stage)
    return union(0.004, foot, tip), [block((-0.0086, 0.0, 0.0358), (0.0086, 0.004, 0.0532), 0.001)]


# name -> (part, marching-cubes cell in metres, triangles of the shell)
PARTS: dict[str, tuple[Callable[[], Part], float, int]] = {
    "base": (base, 0.0015, 2000),
    "shoulder": (shoulder, 0.0015, 2600),
    "elbow": (elbow, 0.0015, 2600),
    "forearm": (forearm, 0.0015, 2400),
    "wrist": (wrist, 0.0015, 2200),
    "flange": (flange, 0.0012, 1600),
    "hand": (hand, 0.0012, 1600),
    "finger": (finger, 0.0005, 1000),
}


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


def write_obj(path: Path, shell: Mesh, dark: list[Mesh]) -> None:
    """Write one Wavefront OBJ: each piece has a single texture point, the palette's middle or its corner."""
    lines, first = [f"vt {u} {u}" for u in (SHELL_UV, DARK_UV)], 1
    for points, normals, faces in [shell, *dark]:
        texture = 1 if faces is shell[2] else 2
        lines += [f"v {x:.5g} {y:.5g} {z:.5g}" for x, y, z in points.round(5) + 0.0]
        lines += [f"vn {x:.3g} {y:.3g} {z:.3g}" for x, y, z in normals.round(3) + 0.0]
        lines += ["f " + " ".join(f"{v}/{texture}/{v}" for v in face) for face in faces + first]
        first += len(points)
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    default = Path(__file__).resolve().parents[1] / "simscaleai/sim/assets/meshes"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    folder.mkdir(parents=True, exist_ok=True)
    for name, (part, cell, triangles) in PARTS.items():
        shell, dark = part()
        mesh = triangulate(shell, cell, triangles)
        write_obj(folder / f"{name}.obj", mesh, dark)
        print(f"{name}: {len(mesh[2])} + {sum(len(faces) for _, _, faces in dark)} triangles")


if __name__ == "__main__":
    main()
