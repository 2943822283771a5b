"""The metrics of finished episodes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from simscaleai.evaluation.statistics import wilson_interval
from simscaleai.rollout.outcomes import DIVERGED, EpisodeResult


def summarize(results: Iterable[EpisodeResult]) -> dict[str, Any]:
    """Return the metrics of `evaluate_policy` for finished episodes."""
    episodes = sorted(results, key=lambda episode: episode.index)
    rewards = np.array([e.reward for e in episodes])
    counts = _counts(episodes)
    groups = sorted({e.group for e in episodes if e.group is not None})
    by_group = {g: _counts([e for e in episodes if e.group == g]) for g in groups}
    for found in by_group.values():
        del found["success_at_end"]
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
        **({"groups": by_group} if by_group else {}),
    }


def _counts(episodes: Sequence[EpisodeResult]) -> dict[str, Any]:
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
