"""Interface of everything that acts: experts, random policies, trained models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from simscaleai import seeding
from simscaleai.array_types import Array, BoolArray


@runtime_checkable
class Policy(Protocol):
    """Acts for n environments at once; any state that it keeps is per environment."""

    def reset(
        self,
        mask: BoolArray,
        seeds: Sequence[int],
        instructions: Sequence[str] | None = None,
    ) -> None:
        """Start new episodes in some envs and discard what is kept of the old ones.

        Args:
          mask: (n,), True for the envs that start an episode.
          seeds: n episode seeds, one for each env, of which those outside of `mask` are ignored.
          instructions: n instructions, one for each env; None leaves the earlier ones in place.
        """

    def act(self, obs: Mapping[str, Array]) -> NDArray[np.float32]:
        """Return actions (n, action_dim) in [-1, 1] for raw observations {key: (n, ...)}."""


class RandomPolicy:
    """Draws uniform actions; the t-th action of an env depends on its episode's seed and t alone."""

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
        # Every env has a generator of its own: its actions do not depend on how many envs there are.
        for i in map(int, np.flatnonzero(mask)):
            self._rng[i] = seeding.generator(seeds[i], "random-policy")

    def act(self, obs: Mapping[str, Array]) -> NDArray[np.float32]:
        drawn = [rng.uniform(-1, 1, self.action_dim) for rng in self._rng]
        return np.stack(drawn).astype(np.float32)  # (n, action_dim)
