"""The action queues of n environments, and the observations that their policy looks back on.

For each env: the observations of the last steps, the action chunk that is being executed, the seed of its
episode and the number of steps in it. Envs never mix, and `reset` empties those of its mask alone.

An env is due for a new chunk when `n_action_steps` of the last one were executed. With temporal ensembling it
is due at every step, and its action is the mean of what all its chunks say about the present, weighted
exp(-m * i), i = 0 for the oldest chunk (Zhao et al., "Learning Fine-Grained Bimanual Manipulation with
Low-Cost Hardware", RSS 2023): a small m follows new observations sooner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

# Actions executed of the chunk of an env without an episode, which is so never due for a new one.
_NEVER = -(2**62)


class ActionQueue:
    """See the module docstring.

    Args:
      num_envs: n.
      n_obs_steps: observations that a chunk is predicted from, the present one last.
      n_action_steps: actions of a chunk that are executed.
      ensemble: m above, or None for the newest chunk alone.

    Attributes:
      settings: the arguments.
      seeds: (n,) of the episodes; 0 before the first `reset`.
      steps: (n,) actions taken in the episodes.
    """

    def __init__(
        self,
        num_envs: int,
        n_obs_steps: int = 1,
        n_action_steps: int = 1,
        ensemble: float | None = None,
    ) -> None:
        self.settings = (num_envs, n_obs_steps, n_action_steps, ensemble)
        self.num_envs, self.n_obs_steps, self.ensemble = num_envs, n_obs_steps, ensemble
        self.n_action_steps = 1 if ensemble is not None else n_action_steps
        self.seeds = [0] * num_envs
        self.steps = np.zeros(num_envs, dtype=np.int64)
        self._executed = np.full(num_envs, self.n_action_steps)  # actions of each env's chunk
        self._past: dict[str, torch.Tensor] = {}  # {key: (n, n_obs_steps, ...)}
        self._chunks: NDArray[np.float32] | None = None  # (n, L, A), the present action first
        self._counts = np.zeros(
            (num_envs, 0), dtype=np.int64
        )  # (n, L) chunks averaged in an action

    def reset(self, mask: NDArray[np.bool_], seeds: Sequence[int]) -> None:
        """Empty the queues of the envs where `mask` (n,) is True, whose episodes have `seeds` (n,)."""
        self.seeds = [
            int(s) if m else old for m, s, old in zip(mask, seeds, self.seeds, strict=True)
        ]
        self.steps[mask] = 0
        self._executed[mask] = self.n_action_steps
        self._counts[mask] = 0

    def rest(self, mask: NDArray[np.bool_]) -> None:
        """Predict no more chunks for the envs where `mask` (n,) is True, until they are reset."""
        self._executed[mask] = _NEVER

    def window(self, obs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return {key: (n, n_obs_steps, ...)} that ends with `obs` {key: (n, ...)}; `obs` for one step.

        Before the start of an episode its first observation is repeated, as in the windows of a dataset.
        """
        if self.n_obs_steps == 1:
            return dict(obs)
        is_first = torch.from_numpy(self.steps == 0)  # (n,)
        result = {}
        for key, now in obs.items():
            repeated = now.unsqueeze(1).repeat_interleave(self.n_obs_steps, 1)  # (n, H, ...)
            past = self._past.get(key, repeated)
            shifted = torch.cat([past[:, 1:], now.unsqueeze(1)], 1)  # (n, H, ...)
            result[key] = torch.where(is_first.view(-1, *[1] * now.ndim), repeated, shifted)
        return result

    @property
    def due(self) -> NDArray[np.intp]:
        """Ids of the envs that need a new chunk."""
        return np.flatnonzero(self._executed >= self.n_action_steps)

    def push(self, env_ids: NDArray[np.intp], chunks: NDArray[np.float32]) -> None:
        """Add new chunks (k, L, A), one for each of `env_ids` (k,)."""
        if self._chunks is None:
            self._chunks = np.zeros((self.num_envs, *chunks.shape[1:]), dtype=np.float32)
            self._counts = np.zeros(self._chunks.shape[:2], dtype=np.int64)
        self._executed[env_ids] = 0
        if self.ensemble is None:
            self._chunks[env_ids] = chunks
            return
        # A running mean: the newest of c + 1 chunks has the weight w_c / (w_0 + ... + w_c).
        counts = self._counts[env_ids]  # (k, L)
        weights = np.exp(-self.ensemble * np.arange(chunks.shape[1]))  # (L,)
        newest = (weights / weights.cumsum())[counts][..., None].astype(np.float32)  # (k, L, 1)
        old = np.where(counts[..., None] > 0, self._chunks[env_ids], chunks)  # (k, L, A)
        self._chunks[env_ids] = old + newest * (chunks - old)
        self._counts[env_ids] += 1

    def pop(self, window: dict[str, torch.Tensor]) -> NDArray[np.float32]:
        """Return the present actions (n, A), and advance by one step, which saw `window`."""
        assert self._chunks is not None
        if self.n_obs_steps > 1:
            self._past = window
        actions = self._chunks[:, 0].copy()
        for array in (self._chunks, self._counts):
            array[:, :-1] = array[:, 1:]
            array[:, -1] = 0
        self._executed += 1
        self.steps += 1
        return actions
