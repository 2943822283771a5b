"""Names for what environments and policies of any package give, which no type can promise.

The loop checks it where it comes in: see `env_checks` and `policy_adapter`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

GymEnv = Any
"""A Gymnasium environment or vector environment, of this package or another."""

Obs = Any
"""Observation of any structure: an array, or dicts and tuples of them; with a leading axis n of n envs."""

Action = Any
"""What `env.step` takes: an array, a number, or a tuple of them; with a leading axis n of n envs."""

Info = Mapping[str, Any]
"""What an environment says besides observation and reward: {name: value}, or {name: (n, ...)} of n envs."""

Predictor = Any
"""A policy of any package: see `PolicyAdapter`."""

PredictFunction = Callable[..., Any]
"""A function of an observation, and perhaps of more, to an action."""
