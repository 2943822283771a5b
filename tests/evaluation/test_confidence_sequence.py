"""Verdicts that may be looked at after every episode."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simscaleai.evaluation.confidence_sequence import (
    N_BETS,
    SequentialComparison,
    Verdict,
    log_wealth,
)

Counts = tuple[int, int, int]  # wins, ties, losses


def wealth(counts: Counts, mean: float = 0.0) -> float:
    return math.exp(float(log_wealth(*map(np.float64, counts), mean)))


def compared(counts: Counts, **settings: float) -> SequentialComparison:
    """A comparison that has seen these episodes, evenly mixed."""
    comparison = SequentialComparison(**settings)
    outcomes = (
        [(False, True)] * counts[0] + [(True, True)] * counts[1] + [(True, False)] * counts[2]
    )
    for k in np.random.default_rng(0).permutation(len(outcomes)):
        comparison.add(*outcomes[k])
    return comparison


def test_wealth_by_hand() -> None:
    assert wealth((0, 0, 0)) == pytest.approx(1)  # what the gambler starts with
    bets = (np.arange(N_BETS) + 0.5) / N_BETS
    weights = bets / bets.sum()
    # two wins and a loss: (1 + f)^2 (1 - f); ties change nothing at a mean of 0
    expected = (weights * (1 + bets) ** 2 * (1 - bets)).sum()
    assert wealth((2, 0, 1)) == pytest.approx(expected) == pytest.approx(wealth((2, 9, 1)))
    # against a mean of 1/2: the bet is f / 1.5 on D - 1/2
    rate = bets / 1.5
    expected = (weights * (1 + 0.5 * rate) ** 2 * (1 - 0.5 * rate) * (1 - 1.5 * rate)).sum()
    assert wealth((2, 1, 1), 0.5) == pytest.approx(expected)


@pytest.mark.parametrize("mean", [-0.3, 0.0, 0.4])
def test_no_bet_wins_on_average(mean: float) -> None:
    # D is 1 or -1 with that mean, or 0 in half of the episodes: expected wealth after one episode is 1
    win = (1 + mean) / 2
    one = win * wealth((1, 0, 0), mean) + (1 - win) * wealth((0, 0, 1), mean)
    assert one == pytest.approx(1)
    lower = mean - 0.1  # and less than 1 if the mean is below
    win = (1 + lower) / 2
    assert win * wealth((1, 0, 0), mean) + (1 - win) * wealth((0, 0, 1), mean) < 1


@pytest.mark.parametrize("rate", [0.8, 0.95])
@pytest.mark.parametrize("nested", [False, True])
def test_false_alarms_with_a_look_after_every_episode(rate: float, nested: bool) -> None:
    repeats, n = 1500, 500
    rng = np.random.default_rng(1)
    differ = (1 - rate) * (0.5 if nested else rate)  # probability of a win, and of a loss
    u = rng.random((repeats, n))
    wins = np.cumsum(u < differ, axis=1)
    losses = np.cumsum((u >= differ) & (u < 2 * differ), axis=1)
    size = np.arange(max(wins.max(), losses.max()) + 1)
    table = log_wealth(*np.broadcast_arrays(size[:, None], 0 * size, size))
    better, worse = table[wins, losses], table[losses, wins]  # (repeats, n)
    alarms = (np.maximum(better, worse) >= math.log(40)).any(axis=1).mean()
    # at most 5 %, which a fixed test that is looked at as often exceeds four times over
    assert 0.005 < alarms < 0.05
    z = abs(wins - losses) / np.sqrt(np.maximum(wins + losses, 1))
    assert (z > 1.96).any(axis=1).mean() > 0.2


def test_power() -> None:
    # 90 against 95 %, failing at the same starts as far as they can: only the second one succeeds in 5 %
    rng, needed = np.random.default_rng(2), []
    for _ in range(30):
        comparison = SequentialComparison(0.02)
        while comparison.verdict is Verdict.UNDECIDED:
            comparison.add(*((False, True) if rng.random() < 0.05 else (True, True)))
        assert comparison.verdict is Verdict.IMPROVED
        needed.append(comparison.decided_after or 0)
    # the unpaired test of fixed size needs 435 episodes of each policy
    assert np.mean(needed) < 435 / 2


def test_interval_contains_the_difference_and_agrees_with_the_verdict() -> None:
    for counts in [(30, 300, 10), (10, 300, 30), (3, 30, 3), (0, 20, 0), (60, 100, 5)]:
        comparison = compared(counts, min_difference=0.05)
        low, high = comparison.interval()
        assert -1 <= low < comparison.pairs.difference < high <= 1
        # the ends are where the wealth reaches 2 / alpha
        assert wealth(counts, low) == pytest.approx(40, rel=1e-3) or low == -1
        mirrored = compared(counts[::-1]).interval()
        assert mirrored == pytest.approx((-high, -low), abs=1e-5)
        now = {
            Verdict.IMPROVED: low >= -1e-5,
            Verdict.REGRESSED: high <= 1e-5,
            Verdict.SAME: max(-low, high) <= 0.05 + 1e-5,
        }
        assert now.get(comparison.verdict, True)
    assert compared((60, 100, 5)).verdict is Verdict.IMPROVED
    assert compared((5, 100, 60)).verdict is Verdict.REGRESSED


def test_policies_that_never_differ_are_the_same() -> None:
    comparison = SequentialComparison(min_difference=0.05)
    while comparison.verdict is Verdict.UNDECIDED:
        comparison.add(True, True)
    # log of 2 / alpha over log(1 + 0.05 / 0.95), and what the mixture over bets costs
    assert 72 < (comparison.decided_after or 0) < 110
    assert comparison.p_value == 1.0
    decided = comparison.decided_after
    comparison.add(False, True)
    assert (comparison.verdict, comparison.decided_after) == (Verdict.SAME, decided)


def test_a_smaller_alpha_takes_longer() -> None:
    needed = []
    for alpha in (0.1, 0.05, 0.01):
        comparison = SequentialComparison(alpha=alpha)
        while comparison.add(False, True) is Verdict.UNDECIDED:
            pass
        needed.append(comparison.decided_after)
        assert comparison.p_value <= alpha
    # all wins: the mean over bets of (1 + f)^n reaches 20, 40 and 200
    assert needed == sorted(needed) and len(set(needed)) == 3
