"""Find episodes that are nearly the same as an earlier one."""

from __future__ import annotations

import numpy as np

from simscaleai.array_types import Array, FloatArray
from simscaleai.datagen.finding import Finding

_POINTS = 8  # of an episode that are compared with those of others
_NEAR = 1e-2  # distance of every point of nearly equal episodes, in the units of the data
# Equal resets put all episodes into one cell, whose pairs grow with the square of their number.
_COMPARED = 50  # episodes before it in its cell


class NearDuplicates:
    """Compares episodes by a few of their points, one after the other."""

    def __init__(self) -> None:
        # {cell: (name, points) of each episode that starts in it}
        self._points: dict[tuple[int, ...], list[tuple[str, FloatArray]]] = {}

    def add(self, name: str, vectors: Array) -> None:
        """Remember some points of an episode; nearly equal episodes share a cell of a coarse grid."""
        at = np.linspace(0, len(vectors) - 1, _POINTS).round().astype(int)
        points = vectors[at].astype(np.float64)  # (points, d)
        # two grids, so that two neighbors are in one cell of at least one of them
        for shift in (0.0, 0.5):
            cell = np.floor(points[0] / (10 * _NEAR) + shift)
            key = (int(2 * shift), *np.nan_to_num(cell, posinf=0, neginf=0).astype(int).tolist())
            self._points.setdefault(key, []).append((name, points))

    def findings(self) -> list[Finding]:
        """Return one finding that names all nearly equal pairs; [] if there is none."""
        copies: dict[str, str] = {}
        for members in self._points.values():
            for k, (name, points) in enumerate(members):
                for other, its_points in members[max(0, k - _COMPARED) : k]:
                    if points.shape != its_points.shape or name in copies:
                        continue
                    distance = np.abs(points - its_points).max()
                    if 0 < distance < _NEAR:  # an exact copy is a warning of its own
                        copies[name] = other
        if not copies:
            return []
        return [
            Finding(
                "episodes are nearly the same as an earlier one",
                tuple(f"{name} like {other}" for name, other in copies.items()),
                "generate with other seeds or more randomization, or leave them out by `simscale data"
                " filter`",
            )
        ]
