"""Intervals and tests for success rates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simscaleai.evaluation.statistics import (
    RESAMPLES,
    Pairs,
    bootstrap_interval,
    mcnemar_p_value,
    newcombe_interval,
    sign_flip_p_value,
    wilson_interval,
)


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


def test_mcnemar_by_hand() -> None:
    # of 9 episodes that differ, 2 or fewer one way: (1 + 9 + 36) / 512 on each side
    assert mcnemar_p_value(Pairs(88, 2, 7, 3)) == pytest.approx(2 * 46 / 512)
    assert mcnemar_p_value(Pairs(1, 7, 2, 5)) == pytest.approx(2 * 46 / 512)
    assert mcnemar_p_value(Pairs(5, 0, 0, 5)) == 1.0 == mcnemar_p_value(Pairs(0, 3, 3, 0))


def test_pairs_are_counted() -> None:
    pairs = Pairs()
    for first, second in [(True, True), (True, False), (False, True), (False, True)]:
        pairs.add(first, second)
    assert pairs == Pairs(1, 1, 2, 0) and pairs.n_episodes == 4
    assert pairs.successes == (2, 3) and pairs.difference == 0.25
    # phi of the table (1, 1, 2, 0): (1 * 0 - 1 * 2) / sqrt(2 * 2 * 3 * 1)
    assert pairs.correlation == pytest.approx(-2 / math.sqrt(12))
    assert Pairs(3, 0, 0, 2).correlation == pytest.approx(1) and Pairs(3, 0, 2, 0).correlation == 0


def test_newcombe_interval() -> None:
    # without correlation it is his interval of unpaired rates: 0.1 +- the ends of Wilson's in squares
    low_1, high_1 = wilson_interval(50, 100)
    low_2, high_2 = wilson_interval(60, 100)
    low, high = newcombe_interval(Pairs(30, 20, 30, 20))
    assert low == pytest.approx(0.1 - math.hypot(0.6 - low_2, high_1 - 0.5))
    assert high == pytest.approx(0.1 + math.hypot(high_2 - 0.6, 0.5 - low_1))
    # the same rates with outcomes that go together: narrower
    closer = newcombe_interval(Pairs(48, 2, 12, 38))
    assert low < closer[0] < 0.1 < closer[1] < high
    mirrored = newcombe_interval(Pairs(48, 12, 2, 38))
    assert mirrored == pytest.approx((-closer[1], -closer[0]))
    for certain in (Pairs(9, 0, 0, 0), Pairs(0, 9, 0, 0), Pairs(0, 0, 0, 9)):
        assert -1 <= newcombe_interval(certain)[0] < newcombe_interval(certain)[1] <= 1


def test_newcombe_covers_the_difference() -> None:
    rng, covered = np.random.default_rng(0), 0
    shares = (0.83, 0.05, 0.10, 0.02)
    for counts in rng.multinomial(100, shares, 2000).tolist():
        low, high = newcombe_interval(Pairs(*counts))
        covered += low <= 0.05 <= high
    assert 0.93 < covered / 2000 < 0.99


def test_sign_flips() -> None:
    # all of 5 differences positive: 2 of the 32 choices of signs are as extreme
    assert sign_flip_p_value(np.full(5, 0.3)) == pytest.approx(2 / 32, abs=0.01)
    assert sign_flip_p_value(np.zeros(9)) == 1.0
    values = np.random.default_rng(0).normal(0.5, 1.0, 200)
    assert sign_flip_p_value(values) == 1 / (RESAMPLES + 1) == sign_flip_p_value(-values)
    # zeros have no sign, and do not matter
    mixed = np.array([1.0, -2.0, 3.0, 0.5])
    assert sign_flip_p_value(mixed) == sign_flip_p_value(np.append(mixed, [0.0, 0.0]))


def test_bootstrap_interval() -> None:
    values = np.random.default_rng(1).normal(2.0, 3.0, 400)
    low, high = bootstrap_interval(values)
    # of a mean of 400: 1.96 standard errors of 3 / 20 on each side
    assert (low, high) == pytest.approx((values.mean() - 0.294, values.mean() + 0.294), abs=0.04)
    assert bootstrap_interval(np.full(7, 0.25)) == (0.25, 0.25)


def test_the_interval_of_every_number_of_successes_ends_where_it_must() -> None:
    for trials in range(1, 300):
        assert wilson_interval(trials, trials)[1] == 1.0  # and not 0.9999999999999999
        assert wilson_interval(0, trials)[0] == 0.0
