r"""Compare two success rates while the episodes come in, as often as you like.

    comparison = SequentialComparison(min_difference=0.05, alpha=0.05)
    for first, second in outcomes:                 # of the same episode, in the order of the suite
        if comparison.add(first, second) is not Verdict.UNDECIDED:
            break
    comparison.verdict, comparison.interval()

**Method.** Episode i gives D_i, the success of the second policy minus that of the first: -1, 0 or 1. To test
that its mean is at most m, a gambler starts with 1 and in each episode bets a share of the wealth on D_i > m:

    wealth(f) = prod_i (1 + f / (1 + m) * (D_i - m)),        0 < f < 1

No bet wins on average if the mean is m or less, so the wealth is a nonnegative supermartingale, and the
probability that it *ever* reaches 1 / a is at most a (Ville 1939). The same holds for the mean over bets f,
here with weights in proportion to f. The values of m that are not refuted on either side at a = alpha / 2 are
a confidence sequence for the difference of the two rates: with probability 1 - alpha it contains the true one
after every episode at once. At m = 0 only the episodes count in which the policies differ, and the test is a
sequential form of McNemar's.

Sources: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS-B 86, 2024
(the bets and the confidence sequence); Ramdas, Gruenwald, Vovk and Shafer, "Game-theoretic statistics and
safe anytime-valid inference", Statistical Science 38, 2023 (the mixture over bets, and why stopping is free).

**Promise.** Whatever the stopping rule, a wrong verdict has at most the probability alpha.

**Trap.** Episodes are added in the order of the suite. In the order in which they end, successes would come
first, as they are shorter, and the promise would not hold.
"""

from __future__ import annotations

import math
from enum import StrEnum

import numpy as np

from simscaleai.array_types import FloatArray, IntArray
from simscaleai.evaluation.statistics import Pairs

Counts = FloatArray | IntArray

N_BETS = 40
_BETS = (np.arange(N_BETS) + 0.5) / N_BETS  # (bets,) shares f of the largest bet
_LOG_WEIGHTS = np.log(_BETS / _BETS.sum())  # larger bets for policies that rarely differ
_TOLERANCE = 1e-6  # of the ends of an interval


class Verdict(StrEnum):
    """Second policy against the first."""

    IMPROVED = "improved"
    REGRESSED = "regressed"
    SAME = "same"
    UNDECIDED = "undecided"


def log_wealth(wins: Counts, ties: Counts, losses: Counts, mean: float = 0.0) -> FloatArray:
    """Return the log of the wealth that was won by betting that the mean difference exceeds `mean`.

    Args:
      wins, ties, losses: numbers of episodes with a difference of 1, 0 and -1, of one shape (...).
      mean: in (-1, 1).
    """
    rate = _BETS / (1 + mean)  # the largest bet loses all in an episode with -1
    growth = (
        np.multiply.outer(wins, np.log1p(rate * (1 - mean)))
        + np.multiply.outer(ties, np.log1p(-rate * mean))
        + np.multiply.outer(losses, np.log1p(-_BETS))
        + _LOG_WEIGHTS
    )  # (..., bets)
    # the log of a sum of exponentials, without overflow
    largest = growth.max(axis=-1, keepdims=True)
    total: FloatArray = largest[..., 0] + np.log(np.exp(growth - largest).sum(axis=-1))
    return total


class SequentialComparison:
    """See the module docstring.

    Args:
      min_difference: differences of success rates smaller than this do not matter; in (0, 1).
      alpha: probability of a wrong verdict, at most; in (0, 1).

    Attributes:
      pairs: the episodes so far.
      verdict: the first one that was reached; it stays.
      decided_after: number of episodes that it took; None while undecided.
    """

    def __init__(self, min_difference: float = 0.05, alpha: float = 0.05) -> None:
        self.min_difference, self.alpha = min_difference, alpha
        self.pairs = Pairs()
        self.verdict = Verdict.UNDECIDED
        self.decided_after: int | None = None
        self._largest = 0.0  # log wealth at a mean of 0, on the better side, so far

    def add(self, first: bool, second: bool) -> Verdict:
        """Count one episode; return the verdict after it."""
        self.pairs.add(first, second)
        better, worse = self._log_wealth(0.0), self._log_wealth(0.0, reverse=True)
        self._largest = max(self._largest, better, worse)
        if self.verdict is Verdict.UNDECIDED:
            self.verdict = self._decide(better, worse)
            if self.verdict is not Verdict.UNDECIDED:
                self.decided_after = self.pairs.n_episodes
        return self.verdict

    @property
    def p_value(self) -> float:
        """Anytime-valid p-value of equal success rates, the smallest so far."""
        return min(1.0, 2 * math.exp(-self._largest))

    def interval(self) -> tuple[float, float]:
        """Return the interval (low, high) of the difference of success rates after the present episode."""
        return self._bound(), -self._bound(reverse=True)

    def _decide(self, better: float, worse: float) -> Verdict:
        if better >= self._threshold:
            return Verdict.IMPROVED
        if worse >= self._threshold:
            return Verdict.REGRESSED
        ends = (self._log_wealth(-self.min_difference, reverse=side) for side in (False, True))
        return Verdict.SAME if min(ends) >= self._threshold else Verdict.UNDECIDED

    @property
    def _threshold(self) -> float:
        return math.log(2 / self.alpha)  # alpha / 2 for each side

    def _log_wealth(self, mean: float, reverse: bool = False) -> float:
        """Return the log wealth against a mean difference of at most `mean`, or of first minus second."""
        pairs = self.pairs
        wins, losses = pairs.only_second, pairs.only_first
        if reverse:
            wins, losses = losses, wins
        ties = pairs.both + pairs.neither
        counts = np.array([wins, ties, losses], dtype=np.float64)
        return float(log_wealth(counts[0], counts[1], counts[2], mean))

    def _bound(self, reverse: bool = False) -> float:
        """Return the smallest mean difference that is not refuted."""
        # the wealth falls with the mean that it is against, so bisection finds the end
        low, high = -1 + _TOLERANCE, 1 - _TOLERANCE
        if self._log_wealth(low, reverse) < self._threshold:
            return -1.0
        while high - low > _TOLERANCE:
            middle = (low + high) / 2
            refuted = self._log_wealth(middle, reverse) >= self._threshold
            low, high = (middle, high) if refuted else (low, middle)
        return low
