"""How often `simscale compare` is wrong, how often it finds a difference, and after how many episodes.

    python benchmarks/compare_power.py [--repeats 10000] [--max-episodes 1000] [--seed 0]

The third table is about `simscale eval --until-interval`: how often the Wilson interval contains the true
rate, although its width decided when to stop.

Outcomes of two policies are drawn with given success rates and a given correlation (phi), which says how
much the policies fail at the same starts; the verdict is looked at after every episode. The fixed unpaired
test of the second table is the two-sided z-test of two proportions at 5 % with a power of 80 %.
"""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from simscaleai.evaluation.confidence_sequence import log_wealth

CORRELATIONS = (0.0, 0.25, 0.5, 0.65)
Z_ALPHA, Z_POWER = 1.959964, 0.841621  # 5 % two-sided, 80 %


class Shares(NamedTuple):
    """Probabilities that only the first policy, or only the second one, succeeds in an episode."""

    only_first: float
    only_second: float


def shares(first: float, second: float, correlation: float) -> Shares:
    """Return the probabilities of a difference for two success rates and their correlation."""
    spread = math.sqrt(first * (1 - first) * second * (1 - second))
    both_fail = (1 - first) * (1 - second) + correlation * spread
    both_fail = min(both_fail, 1 - first, 1 - second)  # the largest correlation there is
    return Shares(1 - second - both_fail, 1 - first - both_fail)


def unpaired_sample_size(first: float, second: float) -> int:
    """Return the episodes of each policy that the z-test of two proportions needs."""
    mean = (first + second) / 2
    pooled = Z_ALPHA * math.sqrt(2 * mean * (1 - mean))
    apart = Z_POWER * math.sqrt(first * (1 - first) + second * (1 - second))
    return math.ceil((pooled + apart) ** 2 / (second - first) ** 2)


def least_mean_pairs(p: Shares) -> float:
    """Return a lower bound of the mean pairs of any test with a power of 80 % and 2.5 % of errors a side.

    Whatever it looks at and whenever it stops: the divergence that it collects, a pair at a time, has to
    exceed that of its verdicts (Wald, "Sequential Tests of Statistical Hypotheses", 1945).
    """
    verdicts = 0.8 * math.log(0.8 / 0.025) + 0.2 * math.log(0.2 / 0.975)
    equal = (p.only_first + p.only_second) / 2  # the closest two policies that are equally good
    return verdicts / sum(q * math.log(q / equal) for q in p if q)


class Outcome(NamedTuple):
    """Shares of the repeats, and pairs of episodes until the verdict."""

    improved: float
    regressed: float
    same: float
    mean_pairs: float
    enough: float  # 80 % of the repeats have a verdict by then
    mean_then: float  # pairs, of comparisons that end there
    peeking: float  # repeats in which McNemar's exact p-value falls below 5 % at some look


def simulate(
    p: Shares,
    repeats: int,
    max_episodes: int,
    rng: np.random.Generator,
    alpha: float = 0.05,
    min_difference: float = 0.05,
) -> Outcome:
    """Run `repeats` comparisons of up to `max_episodes` pairs, with a look after each."""
    threshold, n = math.log(2 / alpha), np.arange(1, max_episodes + 1)
    never = max_episodes + 1
    first_times, peeking = [], 0
    for _ in range(repeats):
        u = rng.random(max_episodes)
        wins = np.cumsum(u < p.only_second)
        losses = np.cumsum((u >= p.only_second) & (u < p.only_second + p.only_first))
        peeking += bool((np.minimum(wins, losses) <= _CRITICAL[wins + losses]).any())
        better, worse = _growth(wins, losses, n, 0.0), _growth(losses, wins, n, 0.0)
        same = np.minimum(
            _growth(wins, losses, n, -min_difference), _growth(losses, wins, n, -min_difference)
        )
        reached = np.stack((better, worse, same)) >= threshold  # (3, max_episodes)
        first_times.append(np.where(reached.any(1), reached.argmax(1) + 1, never))
    times = np.array(first_times)  # (repeats, 3)
    first = times.min(1)
    decided = first < never
    # of verdicts in the same episode, a difference comes first, as in `SequentialComparison`
    kind = np.where(decided, times.argmin(1), 3)
    rates = [float((kind == k).mean()) for k in range(3)]
    capped = np.minimum(first, max_episodes)
    enough = float(np.quantile(first, 0.8, method="higher"))
    return Outcome(
        *rates,
        float(capped.mean()),
        enough,
        float(np.minimum(capped, enough).mean()),
        peeking / repeats,
    )


def _critical(n_max: int) -> np.ndarray:
    """Return, for n <= n_max, the largest k that McNemar's exact test rejects at 5 %; -1 for none."""
    found = np.full(n_max + 1, -1)
    for n in range(n_max + 1):
        tail, k = 1, 0  # of 2^n
        while 40 * tail <= 2**n:  # 2 tail / 2^n <= 5 %
            found[n], k = k, k + 1
            tail += math.comb(n, k)
    return found


_CRITICAL = _critical(1000)


_TABLES: dict[float, np.ndarray] = {}


def _growth(wins: np.ndarray, losses: np.ndarray, n: np.ndarray, mean: float) -> np.ndarray:
    """Return the log wealth after every episode, (max_episodes,)."""
    # a path visits few (wins, losses); the wealth is computed where one of them changes at m = 0
    if mean != 0.0:
        return log_wealth(wins, n - wins - losses, losses, mean)
    if 0.0 not in _TABLES:
        size = np.arange(401)
        _TABLES[0.0] = log_wealth(*np.broadcast_arrays(size[:, None], 0 * size, size), 0.0)
    return _TABLES[0.0][np.minimum(wins, 400), np.minimum(losses, 400)]


def false_alarms(repeats: int, max_episodes: int, rng: np.random.Generator) -> Table:
    table = Table(title=f"Equal policies, {repeats:,} repeats, {max_episodes:,} looks each")
    for column in ("success (%)", "phi", "IMPROVED (%)", "REGRESSED (%)", "false alarms (%)"):
        table.add_column(column)
    table.add_column("SAME WITHIN 5 % (%)")
    table.add_column("mean pairs")
    table.add_column("McNemar's p < 5 % at some look (%)")
    for rate in (0.8, 0.95):
        for phi in CORRELATIONS:
            found = simulate(shares(rate, rate, phi), repeats, max_episodes, rng)
            wrong = found.improved + found.regressed
            cells = (found.improved, found.regressed, wrong, found.same)
            shown = [f"{100 * c:.2f}" for c in cells]
            ends = (f"{found.mean_pairs:.0f}", f"{100 * found.peeking:.1f}")
            table.add_row(f"{100 * rate:g}", f"{phi}", *shown, *ends)
    return table


def power(repeats: int, max_episodes: int, rng: np.random.Generator) -> Table:
    table = Table(title=f"Different policies, {repeats:,} repeats, at most {max_episodes:,} pairs")
    for column in ("success (%)", "phi", "power (%)", "wrong side (%)", "mean pairs"):
        table.add_column(column)
    table.add_column("--max-episodes for 80 % power")
    table.add_column("mean pairs then")
    table.add_column("fixed unpaired test: episodes of each policy")
    table.add_column("mean then / fixed")
    table.add_column("of any test, at least")
    for first, second in ((0.9, 0.95), (0.8, 0.9), (0.5, 0.8)):
        fixed = unpaired_sample_size(first, second)
        for phi in CORRELATIONS:
            p = shares(first, second, phi)
            found = simulate(p, repeats, max_episodes, rng)
            table.add_row(
                f"{100 * first:g} and {100 * second:g}",
                f"{phi}",
                f"{100 * found.improved:.1f}",
                f"{100 * found.regressed:.2f}",
                f"{found.mean_pairs:.0f}",
                f"{found.enough:.0f}",
                f"{found.mean_then:.0f}",
                f"{fixed}",
                f"{found.mean_then / fixed:.2f}",
                f"{least_mean_pairs(p) / fixed:.2f}",
            )
    return table


def coverage(repeats: int, rng: np.random.Generator) -> Table:
    table = Table(
        title=f"Wilson intervals at the width that ended the evaluation, {repeats:,} repeats"
    )
    for column in ("success (%)", "width", "mean episodes", "interval contains the rate (%)"):
        table.add_column(column)
    for rate in (0.5, 0.8, 0.95, 0.99):
        for width in (0.2, 0.1, 0.05):
            # the widest interval, at a rate of 1/2, is about 2 z / (2 sqrt(n)) wide
            last = math.ceil((Z_ALPHA / width) ** 2) + 10
            n = np.arange(1, last + 1)
            covered = episodes = 0
            for _ in range(repeats):
                successes = np.cumsum(rng.random(last) < rate)
                low, high = _wilson(successes, n)
                stop = int(np.argmax(high - low <= width))
                covered += bool(low[stop] <= rate <= high[stop])
                episodes += stop + 1
            mean, share = episodes / repeats, 100 * covered / repeats
            table.add_row(f"{100 * rate:g}", f"{width:g}", f"{mean:.0f}", f"{share:.1f}")
    return table


def _wilson(successes: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of `statistics.wilson_interval` for arrays."""
    rate, weight = successes / n, Z_ALPHA**2 / n
    center = (rate + weight / 2) / (1 + weight)
    half = Z_ALPHA / (1 + weight) * np.sqrt(rate * (1 - rate) / n + weight / n / 4)
    return center - half, center + half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=10_000)
    parser.add_argument("--max-episodes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    console, rng = Console(width=140), np.random.default_rng(args.seed)
    console.print(false_alarms(args.repeats, args.max_episodes, rng))
    console.print(power(args.repeats, args.max_episodes, rng))
    console.print(coverage(args.repeats, np.random.default_rng([args.seed, 1])))


if __name__ == "__main__":
    main()
