"""Build the visual meshes of the Panda arm in `simscaleai/sim/assets/meshes`.

Every part is a signed distance function in the frame of its link (meters): rounded cylinders, boxes and swept
tubes around the joint axes of the published Denavit-Hartenberg table, blended smoothly. `sdf_meshes` makes
triangles of it. The result depends only on these two files.

A development tool, not part of the package:

    pip install numpy scikit-image fast-simplification
    python scripts/build_panda_meshes.py [OUTPUT_FOLDER]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sdf_meshes import (
    Mesh,
    Sdf,
    block,
    box,
    core,
    cut,
    cylinder,
    disc,
    half_space,
    keep,
    place,
    ring,
    triangulate,
    tube,
    union,
)

Part = tuple[Sdf, list[Mesh]]  # light shell, and the dark pieces

# The material's texture is a palette: light inside, dark along its edges, so one geom shows both.
SHELL_UV, DARK_UV = 0.5, 0.03
SEAM = 0.0025  # half of the gap between two white shells, where the dark core shows


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
