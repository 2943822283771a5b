"""Names for environments and policies of any package, and for their results, whose types are unknown.

The loop checks the results where they come in, see `env_checks` and `policy_adapter`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

GymEnv = Any
"""Gymnasium environment or vector environment, of this package or another."""

Obs = Any
"""Observation of any structure: an array, or dicts and tuples of them; with a leading axis n for n envs."""

Action = Any
"""Argument of `env.step`: an array, a number, or a tuple of them; with a leading axis n for n envs."""

Info = Mapping[str, Any]
"""Info of `env.reset` and `env.step`: {name: value}, or {name: (n, ...)} for n envs."""

Predictor = Any
"""Policy of any package: see `PolicyAdapter`."""

PredictFunction = Callable[..., Any]
"""Function from an observation, and perhaps further arguments, to an action."""
