"""The interface of everything that acts: an expert, a random policy, a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from simscaleai import seeding
from simscaleai.array_types import Array, BoolArray


@runtime_checkable
class Policy(Protocol):
    """Acts for n environments at once; whatever it remembers is per environment."""

    def reset(
        self,
        mask: BoolArray,
        seeds: Sequence[int],
        instructions: Sequence[str] | None = None,
    ) -> None:
        """Begin episodes in the envs where `mask` (n,) is True, and forget what was before in them.

        Args:
          mask: (n,), which envs.
          seeds: n, of the episodes in all envs.
          instructions: n, what the episodes in all envs are asked to do; None where the environment asks for
            nothing, and then those given before still hold.
        """

    def act(self, obs: Mapping[str, Array]) -> NDArray[np.float32]:
        """Return actions (n, action_dim) in [-1, 1] for raw observations {key: (n, ...)}."""


class RandomPolicy:
    """Uniform actions; the t-th action in an env depends on its episode's seed and t alone."""

    def __init__(self, action_dim: int) -> None:
        self.action_dim = action_dim
        self._rng: list[np.random.Generator] = []

    def reset(
        self,
        mask: BoolArray,
        seeds: Sequence[int],
        instructions: Sequence[str] | None = None,
    ) -> None:
        if len(self._rng) != len(mask):
            self._rng = [seeding.generator(0, "random-policy") for _ in mask]
        for i in map(int, np.flatnonzero(mask)):
            self._rng[i] = seeding.generator(seeds[i], "random-policy")

    def act(self, obs: Mapping[str, Array]) -> NDArray[np.float32]:
        drawn = [rng.uniform(-1, 1, self.action_dim) for rng in self._rng]
        return np.stack(drawn).astype(np.float32)  # (n, action_dim)
