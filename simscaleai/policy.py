"""What anything that drives a robot looks like: an expert, a random policy, a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from simscaleai import seeding


class Policy(Protocol):
    """Acts for n environments at once; whatever it remembers is per environment."""

    def reset(
        self,
        mask: NDArray[np.bool_],
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

    def act(self, obs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Actions (n, action_dim) in [-1, 1] for raw observations {key: (n, ...)}."""


class RandomPolicy:
    """Uniform actions; row i's t-th action depends on its episode's seed and t alone."""

    def __init__(self, action_dim: int = 4) -> None:
        self.action_dim = action_dim
        self._rng: list[np.random.Generator] = []

    def reset(
        self,
        mask: NDArray[np.bool_],
        seeds: Sequence[int],
        instructions: Sequence[str] | None = None,
    ) -> None:
        if len(self._rng) != len(mask):
            self._rng = [seeding.generator(0, "random-policy") for _ in mask]
        for i in map(int, np.flatnonzero(mask)):
            self._rng[i] = seeding.generator(seeds[i], "random-policy")

    def act(self, obs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        shape = self.action_dim
        return np.stack([r.uniform(-1, 1, shape) for r in self._rng]).astype(np.float32)
