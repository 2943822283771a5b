"""What a policy remembers of n environments between two calls.

For each row: the observations of the last steps, the actions planned and not yet executed, the seed of its
episode and how many steps that is old. Rows never mix, and `reset` empties the rows it is told and no other.

A row is due for a new plan when `n_action_steps` of its last one were executed. With temporal ensembling a
row is due at every step, and its action is the mean of what all its plans say about the present, weighted
exp(-m * i), i = 0 for the oldest plan (Zhao et al., "Learning Fine-Grained Bimanual Manipulation with
Low-Cost Hardware", RSS 2023): a small m takes up new observations sooner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray


class ActionQueue:
    """Of `n` rows.

    Args:
      n: rows.
      n_obs_steps: observations that a plan is made from, the present one last.
      n_action_steps: actions of a plan that are executed.
      ensemble: m above, or None for the newest plan alone.

    Attributes:
      settings: the arguments.
      seeds: (n,) of the rows' episodes; 0 where `reset` told none.
      steps: (n,) actions that were taken since.
    """

    def __init__(
        self, n: int, n_obs_steps: int = 1, n_action_steps: int = 1, ensemble: float | None = None
    ) -> None:
        self.settings = (n, n_obs_steps, n_action_steps, ensemble)
        self.n, self.n_obs_steps, self.ensemble = n, n_obs_steps, ensemble
        self.n_action_steps = 1 if ensemble is not None else n_action_steps
        self.seeds = [0] * n
        self.steps = np.zeros(n, dtype=np.int64)
        self._executed = np.full(n, self.n_action_steps)  # of each row's plan
        self._past: dict[str, torch.Tensor] = {}
        self._plans: NDArray[np.float32] | None = None  # (n, L, A), the present action first
        self._votes = np.zeros((n, 0), dtype=np.int64)  # (n, L) plans that an action is the mean of

    def reset(self, mask: NDArray[np.bool_], seeds: Sequence[int]) -> None:
        """Forget the rows where `mask` (n,) is True, whose episodes have `seeds` (n,)."""
        self.seeds = [
            int(s) if m else old for m, s, old in zip(mask, seeds, self.seeds, strict=True)
        ]
        self.steps[mask] = 0
        self._executed[mask] = self.n_action_steps
        self._votes[mask] = 0

    def window(self, obs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """{key: (n, n_obs_steps, ...)} that ends with `obs` {key: (n, ...)}; `obs` itself for one step.

        Before the start of an episode its first observation is repeated, as in the windows of a dataset.
        """
        if self.n_obs_steps == 1:
            return dict(obs)
        fresh = torch.from_numpy(self.steps == 0)
        result = {}
        for key, now in obs.items():
            repeated = now.unsqueeze(1).repeat_interleave(self.n_obs_steps, 1)
            past = self._past.get(key, repeated)
            moved = torch.cat([past[:, 1:], now.unsqueeze(1)], 1)
            result[key] = torch.where(fresh.view(-1, *[1] * now.ndim), repeated, moved)
        return result

    @property
    def due(self) -> NDArray[np.intp]:
        """The rows that need a new plan."""
        return np.flatnonzero(self._executed >= self.n_action_steps)

    def plan(self, rows: NDArray[np.intp], chunks: NDArray[np.float32]) -> None:
        """Take in new plans (k, L, A) of some rows."""
        if self._plans is None:
            self._plans = np.zeros((self.n, *chunks.shape[1:]), dtype=np.float32)
            self._votes = np.zeros(self._plans.shape[:2], dtype=np.int64)
        self._executed[rows] = 0
        if self.ensemble is None:
            self._plans[rows] = chunks
            return
        votes = self._votes[rows]
        weights = np.exp(-self.ensemble * np.arange(chunks.shape[1]))
        share = (weights / weights.cumsum())[votes][..., None].astype(np.float32)
        old = np.where(votes[..., None] > 0, self._plans[rows], chunks)
        self._plans[rows] = old + share * (chunks - old)
        self._votes[rows] += 1

    def act(self, window: dict[str, torch.Tensor]) -> NDArray[np.float32]:
        """The present actions (n, A); a step is over, of which `window` is remembered."""
        assert self._plans is not None
        if self.n_obs_steps > 1:
            self._past = window
        actions = self._plans[:, 0].copy()
        for array in (self._plans, self._votes):
            array[:, :-1] = array[:, 1:]
            array[:, -1] = 0
        self._executed += 1
        self.steps += 1
        return actions
