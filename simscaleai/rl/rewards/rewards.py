"""Rewards that can be combined: functions of observation, action and info, for one step or for n.

    reward = CompositeReward([
        (DistanceReward("ee_pos", "target_pos"), 1.0),
        (SuccessBonus("ee_pos", "target_pos", threshold=0.02, bonus=10.0), 1.0),
        (ActionPenalty(scale=0.01), 1.0),
    ])
    env = make_env("reach", reward=reward)

Entries of `obs` are (d,) or (n, d) and the result is a float or (n,). A bonus for every step near the goal
teaches the policy to linger there instead of finishing. Our tasks give it once, as success ends the episode.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import array_api_compat
import numpy as np

from simscaleai.errors import unknown_name
from simscaleai.sim.arrays import array_namespace, number

# Arrays of any library of the array API have no common type that mypy knows.
Value: TypeAlias = Any  # a number or an array
Values = Mapping[str, Value]


class RewardFunction(ABC):
    """The reward of a step."""

    @abstractmethod
    def compute(self, obs: Values, action: Value, info: Values) -> Value:
        """Return the reward of a step: a float, or (n,) for batched arguments.

        Args:
          obs: the observation after the action.
          action: (action_dim,) or (n, action_dim).
          info: the environment's info of the step.
        """

    def terms(self, obs: Values, action: Value, info: Values) -> dict[str, Value]:
        """Return named terms whose sum is the reward; a single one unless a subclass has more."""
        return {_snake_case(type(self).__name__): self.compute(obs, action, info)}


class DistanceReward(RewardFunction):
    """Minus `scale` times the distance between two entries, in m."""

    def __init__(
        self, key_a: str = "ee_pos", key_b: str = "target_pos", scale: float = 1.0
    ) -> None:
        self.key_a, self.key_b, self.scale = key_a, key_b, scale

    def compute(self, obs: Values, action: Value, info: Values) -> Value:
        return _number(-self.scale * _distance(obs, self.key_a, self.key_b))


class SuccessBonus(RewardFunction):
    """`bonus` where two entries are closer than `threshold` m, else 0."""

    def __init__(
        self,
        key_a: str = "ee_pos",
        key_b: str = "target_pos",
        threshold: float = 0.05,
        bonus: float = 1.0,
    ) -> None:
        self.key_a, self.key_b = key_a, key_b
        self.threshold, self.bonus = threshold, bonus

    def compute(self, obs: Values, action: Value, info: Values) -> Value:
        near = _distance(obs, self.key_a, self.key_b) < self.threshold
        return _number(number(near) * self.bonus)


class ActionPenalty(RewardFunction):
    """Minus `scale` times the length of the action."""

    def __init__(self, scale: float = 0.01) -> None:
        self.scale = scale

    def compute(self, obs: Values, action: Value, info: Values) -> Value:
        return _number(-self.scale * _norm(_array(action)))


class CompositeReward(RewardFunction):
    """The weighted sum of rewards, [(reward, weight), ...]."""

    def __init__(self, rewards: Sequence[tuple[RewardFunction, float]]) -> None:
        self.rewards = list(rewards)

    def compute(self, obs: Values, action: Value, info: Values) -> Value:
        return sum(weight * reward.compute(obs, action, info) for reward, weight in self.rewards)

    def terms(self, obs: Values, action: Value, info: Values) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for reward, weight in self.rewards:
            for name, value in reward.terms(obs, action, info).items():
                k = 2
                unique = name
                while unique in found:  # two rewards of one class
                    unique, k = f"{name}_{k}", k + 1
                found[unique] = weight * value
        return found


def _distance(obs: Values, key_a: str, key_b: str) -> Value:
    for key in (key_a, key_b):
        if key not in obs:
            raise unknown_name("observation in a reward", key, sorted(obs))
    return _norm(_array(obs[key_a]) - _array(obs[key_b]))  # (...)


def _norm(vectors: Value) -> Value:
    """Return the lengths (...) of vectors (..., d)."""
    return array_namespace(vectors).linalg.vector_norm(vectors, axis=-1)


def _array(values: Value) -> Value:
    """Return an array of the caller's library; of NumPy for lists."""
    return values if array_api_compat.is_array_api_obj(values) else np.asarray(values)


def _number(value: Value) -> Value:
    """Return a float for a single step, and the array itself for n."""
    return float(value) if value.ndim == 0 else value


def _snake_case(name: str) -> str:
    return "".join(("_" + c.lower()) if c.isupper() else c for c in name).lstrip("_")
