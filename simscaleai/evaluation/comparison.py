"""What a comparison of two policies on the same episodes has found, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simscaleai.evaluation.confidence_sequence import SequentialComparison, Verdict
from simscaleai.evaluation.statistics import (
    Pairs,
    bootstrap_interval,
    mcnemar_p_value,
    newcombe_interval,
    sign_flip_p_value,
    wilson_interval,
)
from simscaleai.rollout.outcomes import DIVERGED, EpisodeResult


@dataclass(frozen=True)
class SuccessRate:
    """Successes in n episodes, with the Wilson interval of 95 %."""

    successes: int
    n: int
    rate: float
    interval: tuple[float, float]

    @classmethod
    def of(cls, successes: int, n: int) -> SuccessRate:
        """Return the rate of `successes` in n > 0 episodes."""
        return cls(successes, n, successes / n, wilson_interval(successes, n))

    def text(self) -> str:
        """Return the rate as a person reads it: "95.0 % (88.8 to 97.8)"."""
        low, high = self.interval
        return f"{100 * self.rate:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


@dataclass(frozen=True)
class PairedChange:
    """How a quantity changes from the baseline to the candidate, in the same episodes.

    Attributes:
      baseline, candidate: means.
      difference: their difference.
      interval: 95 % bootstrap interval of the difference.
      p_value: of a permutation test by sign flips.
    """

    baseline: float
    candidate: float
    difference: float
    interval: tuple[float, float]
    p_value: float


@dataclass(frozen=True)
class DifferingEpisode:
    """An episode in which one policy succeeded and the other did not.

    Attributes:
      index, seed, instruction: see `EpisodeResult`.
      baseline, candidate: "success", or the stage at which the policy failed.
    """

    index: int
    seed: int
    instruction: str
    baseline: str
    candidate: str


@dataclass(frozen=True)
class Comparison:
    """A candidate against the baseline.

    Attributes:
      baseline, candidate: names of the policies, in full.
      verdict: "improved", "regressed", "same" (up to `min_difference`) or "undecided".
      n_episodes: pairs of episodes until the verdict, on which all numbers rest.
      baseline_success, candidate_success: their success rates.
      difference: of the success rates, candidate minus baseline.
      interval: of the difference, at 1 - `alpha`; valid whenever the comparison ended.
      p_value: of equal success rates, valid likewise.
      alpha: of this comparison.
      pairs: episodes by who succeeded, `only_first` the baseline and `only_second` the candidate.
      correlation: phi coefficient of the outcomes: how much the policies fail at the same starts.
      mcnemar_p_value, newcombe_interval: of a comparison of fixed size; see the trap of `compare`.
      changes: of "reward" (return), "length" (control steps) and "stage" (index of the failure stage reached;
        the number of stages for a success, -1 for unstable physics).
      differing: the episodes in which one policy succeeded and the other did not.
      videos: files of some of them, baseline on the left.
    """

    baseline: str
    candidate: str
    verdict: Verdict
    n_episodes: int
    baseline_success: SuccessRate
    candidate_success: SuccessRate
    difference: float
    interval: tuple[float, float]
    p_value: float
    alpha: float
    pairs: Pairs
    correlation: float
    mcnemar_p_value: float
    newcombe_interval: tuple[float, float]
    changes: dict[str, PairedChange]
    differing: tuple[DifferingEpisode, ...]
    videos: tuple[str, ...] = ()

    def sentence(self, min_difference: float) -> str:
        """Return the verdict in capitals, with what it needs to be understood."""
        return {
            Verdict.IMPROVED: f"IMPROVED after {self.n_episodes} episodes",
            Verdict.REGRESSED: f"REGRESSED after {self.n_episodes} episodes",
            Verdict.SAME: f"SAME WITHIN {100 * min_difference:g} % after {self.n_episodes} episodes",
            Verdict.UNDECIDED: f"UNDECIDED after {self.n_episodes} episodes",
        }[self.verdict]


def sum_up(
    names: tuple[str, str],
    test: SequentialComparison,
    baseline: Sequence[EpisodeResult],
    candidate: Sequence[EpisodeResult],
    stages: tuple[str, ...],
) -> Comparison:
    """Return what was found after the last episode that counts.

    Args:
      names: of baseline and candidate, in full.
      test: after its last episode.
      baseline, candidate: the same episodes of both, in the order of the suite; further ones are left out.
      stages: failure stages of the task, in their order.
    """
    pairs, n = test.pairs, test.pairs.n_episodes
    # episodes beyond the verdict were run because they were under way; they decide nothing
    first, second = baseline[:n], candidate[:n]
    return Comparison(
        baseline=names[0],
        candidate=names[1],
        verdict=test.verdict,
        n_episodes=n,
        baseline_success=SuccessRate.of(pairs.successes[0], n),
        candidate_success=SuccessRate.of(pairs.successes[1], n),
        difference=pairs.difference,
        interval=test.interval(),
        p_value=test.p_value,
        alpha=test.alpha,
        pairs=pairs,
        correlation=pairs.correlation,
        # what a reader would have computed from episodes of a fixed number
        mcnemar_p_value=mcnemar_p_value(pairs),
        newcombe_interval=newcombe_interval(pairs),
        changes={
            "reward": _change([e.reward for e in first], [e.reward for e in second]),
            "length": _change([e.length for e in first], [e.length for e in second]),
            "stage": _change(
                [stage_index(e, stages) for e in first], [stage_index(e, stages) for e in second]
            ),
        },
        differing=tuple(
            DifferingEpisode(a.index, a.seed, a.instruction, outcome(a), outcome(b))
            for a, b in zip(first, second, strict=True)
            if a.success != b.success
        ),
    )


def _change(baseline: Sequence[float], candidate: Sequence[float]) -> PairedChange:
    first, second = np.array(baseline, dtype=float), np.array(candidate, dtype=float)
    differences = second - first  # (n,)
    return PairedChange(
        baseline=float(first.mean()),
        candidate=float(second.mean()),
        difference=float(differences.mean()),
        # neither assumes a distribution: returns have two humps, of successes and of failures
        interval=bootstrap_interval(differences),
        p_value=sign_flip_p_value(differences),
    )


def stage_index(episode: EpisodeResult, stages: Sequence[str]) -> int:
    """Return how far an episode came: the index of its failure stage, `len(stages)` for a success."""
    if episode.success:
        return len(stages)
    # what came before unstable physics cannot be trusted, so it counts as less than the first stage
    if episode.stage == DIVERGED or episode.stage is None:
        return -1
    return list(stages).index(episode.stage)


def outcome(episode: EpisodeResult) -> str:
    """Return "success", or the stage at which an episode failed."""
    return "success" if episode.success else episode.stage or "failure"
