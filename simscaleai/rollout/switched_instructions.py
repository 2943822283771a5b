"""A policy that hears another instruction first, and that of its episode from a random step on.

Its states lie between the ways to different goals: a policy that follows instructions must turn around there,
and no demonstration shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from simscaleai import seeding
from simscaleai.array_types import Array, BoolArray
from simscaleai.policy import Policy

# The switch comes in the first quarter of the longest duration: few episodes last much longer than that.
_EARLY = 4


class SwitchedInstructions:
    """See the module docstring. What happens in an episode is a function of its seed and the policy.

    Args:
      policy: is reset, as at the start of an episode, when the instruction changes.
      sentences: {goal: instructions that ask for it}, of at least two goals.
      max_steps: largest number of steps of an episode.
    """

    def __init__(
        self, policy: Policy, sentences: Mapping[str, Sequence[str]], max_steps: int
    ) -> None:
        self._policy = policy
        self._sentences = list(sentences.values())
        self._latest = max(1, max_steps // _EARLY)
        self._own: list[str] = []  # n instructions, of the episodes
        self._seeds: list[int] = []
        self._steps = np.zeros(0, np.int64)  # (n,) since the episode began
        self._switch = np.zeros(0, np.int64)  # (n,) the step at which its own instruction is given

    def reset(
        self, mask: BoolArray, seeds: Sequence[int], instructions: Sequence[str] | None = None
    ) -> None:
        """Start episodes with an instruction of another goal."""
        assert instructions is not None
        if len(self._steps) != len(mask):
            self._steps = np.zeros(len(mask), np.int64)
            self._switch = np.zeros(len(mask), np.int64)
        self._own, self._seeds = list(instructions), list(seeds)
        for i in map(int, np.flatnonzero(mask)):
            rng = seeding.generator(seeds[i], "switched instruction")
            self._steps[i], self._switch[i] = 0, rng.integers(1, self._latest + 1)
        self._policy.reset(mask, seeds, self._given())

    def act(self, obs: Mapping[str, Array]) -> NDArray[np.float32]:
        now = self._steps == self._switch
        if now.any():
            self._policy.reset(now, self._seeds, self._given())
        self._steps += 1
        return self._policy.act(obs)

    def rest(self, mask: BoolArray) -> None:
        """Tell the policy, if it wants to know, that the envs in `mask` (n,) have no episode."""
        if (rest := getattr(self._policy, "rest", None)) is not None:
            rest(mask)

    def _given(self) -> list[str]:
        """Return the n instructions that the policy has at this step."""
        early = self._steps < self._switch
        return [self._other(i) if early[i] else own for i, own in enumerate(self._own)]

    def _other(self, i: int) -> str:
        """Return an instruction of another goal than that of the episode in env i."""
        rng = seeding.generator(self._seeds[i], "other instruction")
        others = [each for each in self._sentences if self._own[i] not in each]
        return str(rng.choice(others[rng.integers(len(others))]))
