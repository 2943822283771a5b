"""The metrics of finished episodes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from simscaleai.evaluation.following import measure_following
from simscaleai.evaluation.statistics import wilson_interval
from simscaleai.rollout.outcomes import DIVERGED, EpisodeResult

Metrics = dict[str, Any]
"""Results of an evaluation by name, as `evaluate_policy` lists them."""


def summarize(results: Iterable[EpisodeResult]) -> Metrics:
    """Return the metrics of `evaluate_policy` for finished episodes."""
    episodes = sorted(results, key=lambda episode: episode.index)
    # episodes end in any order, and results shall not depend on it
    rewards = np.array([e.reward for e in episodes])
    counts = _counts(episodes)
    categories = sorted({e.category for e in episodes if e.category is not None})
    by_category = {c: _counts([e for e in episodes if e.category == c]) for c in categories}
    for counted in by_category.values():
        del counted["success_at_end"]
    # apart from success: a policy may go for the right object and drop it
    followed = measure_following(episodes)
    return {
        "success_rate": counts["success_rate"],
        "success_ci": counts["success_ci"],
        "success_at_end": counts["success_at_end"],
        "mean_reward": float(rewards.mean()),
        "std_reward": float(rewards.std()),
        "mean_length": float(np.mean([e.length for e in episodes])),
        "min_reward": float(rewards.min()),
        "max_reward": float(rewards.max()),
        "n_episodes": len(episodes),
        "failure_stages": counts["failure_stages"],
        "diverged": counts["failure_stages"].get(DIVERGED, 0),
        "episodes": [e.to_dict() for e in episodes],
        **({"categories": by_category} if by_category else {}),
        **({"following": followed} if followed else {}),
    }


def _counts(episodes: Sequence[EpisodeResult]) -> Metrics:
    n = len(episodes)
    rate, at_end, interval = math.nan, math.nan, (math.nan, math.nan)
    if any(e.success is not None for e in episodes):  # an episode without a word is a failure then
        successes = sum(bool(e.success) for e in episodes)
        rate, interval = successes / n, wilson_interval(successes, n)
        at_end = sum(bool(e.success_at_end) for e in episodes) / n
    return {
        "n_episodes": n,
        "success_rate": rate,
        "success_ci": interval,
        "success_at_end": at_end,
        "failure_stages": dict(Counter(e.stage for e in episodes if e.stage is not None)),
    }
