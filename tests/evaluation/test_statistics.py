from __future__ import annotations

import pytest

from simscaleai.evaluation.statistics import wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # at a rate of 1 the low end is n / (n + z^2) = 10 / 13.8415
        (10, 10, 0.7225, 1.0),
        (0, 10, 0.0, 0.2775),
        # at a half it is 0.5 +- z / (2 sqrt(n + z^2)) = 0.5 +- 0.98 / sqrt(103.84)
        (50, 100, 0.4038, 0.5962),
        (1, 1, 0.2065, 1.0),
        (95, 100, 0.8882, 0.9785),
    ],
)
def test_wilson_interval(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_interval_is_symmetric_contains_the_rate_and_shrinks() -> None:
    widths = []
    for trials in (4, 40, 400):
        for successes in range(trials + 1):
            low, high = wilson_interval(successes, trials)
            assert 0.0 <= low <= high <= 1.0
            assert low - 1e-12 <= successes / trials <= high + 1e-12
            other = wilson_interval(trials - successes, trials)
            assert (1 - other[1], 1 - other[0]) == pytest.approx((low, high))
        low, high = wilson_interval(trials // 4, trials)
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]


def test_a_wider_confidence_is_wider() -> None:
    at_95, at_99 = wilson_interval(7, 20), wilson_interval(7, 20, z=2.575829)
    assert at_99[0] < at_95[0] and at_95[1] < at_99[1]
