"""Intervals and tests for success rates, of one policy and of two on the same episodes.

    wilson_interval(95, 100)                   # (0.888, 0.978): of one rate
    pairs = Pairs(both=88, only_first=2, only_second=7, neither=3)
    mcnemar_p_value(pairs)                     # 0.18: are the two policies equally good?
    newcombe_interval(pairs)                   # of the difference of their rates

All of them are for a number of episodes that was chosen beforehand; `confidence_sequence` is for looking at
results while they come in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simscaleai import seeding
from simscaleai.array_types import FloatArray

RESAMPLES = 9_999
"""Random sign flips, or bootstrap samples; p-values are multiples of 1 / (RESAMPLES + 1)."""

_CHUNK = 2**21  # numbers that are drawn at a time, 16 MB


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the interval (low, high) for a rate of `successes` in `trials`; by default of 95 % confidence.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927. Unlike
    rate +- z sigma it stays in [0, 1] and is not empty at 0 % and 100 %.
    """
    assert 0 <= successes <= trials and trials > 0
    rate, weight = successes / trials, z * z / trials
    center = (rate + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(rate * (1 - rate) / trials + weight / trials / 4)
    # the bound of a rate of 0 or 1 is exact; rounding would make it 0.9999999999999999
    low = 0.0 if successes == 0 else center - half
    return low, 1.0 if successes == trials else center + half


@dataclass
class Pairs:
    """Numbers of episodes by who succeeded in them: a first policy, a second one, both or neither."""

    both: int = 0
    only_first: int = 0
    only_second: int = 0
    neither: int = 0

    def add(self, first: bool, second: bool) -> None:
        """Count one episode."""
        self.both += first and second
        self.only_first += first and not second
        self.only_second += second and not first
        self.neither += not (first or second)

    @property
    def n_episodes(self) -> int:
        """Number of episodes."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def successes(self) -> tuple[int, int]:
        """Number of successes of the first policy and of the second one."""
        return self.both + self.only_first, self.both + self.only_second

    @property
    def difference(self) -> float:
        """Success rate of the second policy minus that of the first; 0 without episodes."""
        return (self.only_second - self.only_first) / max(self.n_episodes, 1)

    @property
    def correlation(self) -> float:
        """Phi coefficient of the two outcomes, in [-1, 1]; 0 where a policy always or never succeeds."""
        n, (first, second) = self.n_episodes, self.successes
        deviations = math.sqrt(first * (n - first) * second * (n - second))
        return (n * self.both - first * second) / deviations if deviations else 0.0


def mcnemar_p_value(pairs: Pairs) -> float:
    """Return the exact two-sided p-value of equal success rates, from the episodes that differ.

    If the rates are equal, each of them is as likely to be a win of the one policy as of the other.
    McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947; with the binomial distribution in place of its approximation.
    """
    n = pairs.only_first + pairs.only_second
    fewer = min(pairs.only_first, pairs.only_second)
    tail = sum(math.comb(n, k) for k in range(fewer + 1))  # of 2^n, exact
    return min(1.0, 2 * tail / 2**n)


def newcombe_interval(pairs: Pairs, z: float = 1.959964) -> tuple[float, float]:
    """Return the interval (low, high) of `Pairs.difference`; by default of 95 % confidence.

    Newcombe, "Improved confidence intervals for the difference between binomial proportions based on paired
    data", Statistics in Medicine 17, 1998, method 10: Wilson's intervals of the two rates, joined by the
    correlation of the outcomes.
    """
    n, (first, second) = pairs.n_episodes, pairs.successes
    (low_1, high_1), (low_2, high_2) = (wilson_interval(k, n, z) for k in (first, second))
    rate_1, rate_2, phi = first / n, second / n, _continuity_corrected(pairs)
    difference = rate_2 - rate_1
    below, above = (rate_2 - low_2, high_1 - rate_1), (high_2 - rate_2, rate_1 - low_1)

    def half(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))  # rounding may go below 0

    return max(-1.0, difference - half(*below)), min(1.0, difference + half(*above))


def _continuity_corrected(pairs: Pairs) -> float:
    """Return the correlation of the outcomes, corrected for continuity where it is positive."""
    n, (first, second) = pairs.n_episodes, pairs.successes
    deviations = math.sqrt(first * (n - first) * second * (n - second))
    covariance = float(pairs.both * pairs.neither - pairs.only_first * pairs.only_second)
    if covariance > 0:
        covariance = max(covariance - n / 2, 0.0)
    return covariance / deviations if deviations else 0.0


def sign_flip_p_value(differences: FloatArray, seed: int = 0) -> float:
    """Return the two-sided p-value of paired differences (n,) being symmetric around 0.

    If two policies are alike, each difference could as well have the other sign. The mean is compared with
    those of `RESAMPLES` random choices of signs (Fisher, "The Design of Experiments", 1935); the p-value is
    never 0 (Phipson and Smyth, "Permutation p-values should never be zero", 2010).
    """
    values = differences[differences != 0]  # the others have no sign
    if not len(values):
        return 1.0
    observed = abs(values.sum()) * (1 - 1e-12)  # sums in another order are rounded differently
    rng = seeding.generator(seed, "sign flips")
    extreme, rows = 0, max(1, _CHUNK // len(values))
    for start in range(0, RESAMPLES, rows):
        shape = (min(rows, RESAMPLES - start), len(values))
        signs = 2.0 * rng.integers(0, 2, shape) - 1.0  # (resamples, n)
        extreme += int((abs(signs @ values) >= observed).sum())
    return (1 + extreme) / (1 + RESAMPLES)


def bootstrap_interval(
    values: FloatArray, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval (low, high) of the mean of `values` (n,).

    Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979.
    """
    rng = seeding.generator(seed, "bootstrap")
    means, rows = np.empty(RESAMPLES), max(1, _CHUNK // len(values))
    for start in range(0, RESAMPLES, rows):
        chosen = rng.integers(0, len(values), (min(rows, RESAMPLES - start), len(values)))
        means[start : start + len(chosen)] = values[chosen].mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)
