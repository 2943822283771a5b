"""Find episodes whose length or return is far from that of the others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simscaleai.datagen.finding import Finding
from simscaleai.storage.episodes import EpisodeSource

_OUTLIER = 8.0  # robust standard deviations from the median
_FEW = 20  # episodes, below which none is an outlier
_MAD = 1.4826  # standard deviations of a normal distribution in a median absolute deviation


def outliers(data: EpisodeSource, numbers: Mapping[int, Mapping[str, float]]) -> list[Finding]:
    """Return what is far from the median; `numbers` are {episode: {"length", "return"}}."""
    if len(numbers) < _FEW:
        return []
    found = []
    for quantity in ("length", "return"):
        known = {i: n[quantity] for i, n in numbers.items() if quantity in n}
        values = np.array(list(known.values()))
        if not len(values):
            continue
        # median and not mean: one broken episode must not hide itself in the spread
        distance = np.abs(values - np.median(values))
        # a step at least, or a tenth of the median: equal episodes have no deviation at all
        scale = max(_MAD * float(np.median(distance)), 0.1 * abs(float(np.median(values))), 1.0)
        names = [
            data.episodes[i].name
            for i, d in zip(known, distance, strict=True)
            if d > _OUTLIER * scale
        ]
        if names:
            found.append(
                Finding(
                    f"the {quantity} is far from that of the other episodes",
                    tuple(names),
                    "look at them with `simscale viz-trajectory`, or leave them out by `simscale data"
                    " filter`",
                )
            )
    return found
