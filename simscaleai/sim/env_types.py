"""Types of what environments give and take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gymnasium import spaces

from simscaleai.array_types import Array, ArrayDict

ObsDict = ArrayDict
"""Observations by key: (...) of a single environment, (n, ...) of n envs."""

InfoDict = dict[str, Any]
"""Gymnasium's info: numbers, flags, texts and dicts of them by name; with a leading axis n of n envs."""

Space = spaces.Space[Any]
"""Gymnasium space of any element."""

GoalReward = Callable[..., Array]
"""`compute_reward(achieved, desired, info)` of a goal-conditioned environment: rewards (...,)."""
