"""How sure a measured success rate is."""

from __future__ import annotations

import math


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The interval (low, high) for a rate of `successes` in `trials`; by default of 95 % confidence.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927. Unlike
    rate +- z sigma it stays in [0, 1] and is not empty at 0 % and 100 %.
    """
    assert 0 <= successes <= trials and trials > 0
    rate, weight = successes / trials, z * z / trials
    centre = (rate + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(rate * (1 - rate) / trials + weight / trials / 4)
    # at 0 and 1 the bound is exact, up to rounding
    return max(0.0, centre - half), min(1.0, centre + half)
