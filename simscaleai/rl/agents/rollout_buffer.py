"""Storage of a rollout: tensors with steps along the first axis and environments along the second."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from simscaleai.memory import require_memory

ArrayLike: TypeAlias = torch.Tensor | NDArray[np.generic] | Sequence[object] | float
Minibatch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class RolloutBuffer:
    """`n_steps` steps of `num_envs` environments.

    Args:
      n_steps: steps of each environment.
      obs_dim, action_dim: widths.
      device: device of the tensors.
      num_envs: number of environments; with 1, `add` also takes values without this axis.
    """

    def __init__(
        self, n_steps: int, obs_dim: int, action_dim: int, device: str, num_envs: int = 1
    ) -> None:
        require_memory(
            4 * n_steps * num_envs * (obs_dim + action_dim + 4),
            f"n_steps={n_steps} of {num_envs} environments",
        )
        self.n_steps, self.num_envs = n_steps, num_envs

        def empty(*shape: int) -> torch.Tensor:
            return torch.zeros(n_steps, num_envs, *shape, device=device)

        # (n_steps, num_envs, width), then (n_steps, num_envs)
        self.obs, self.actions = empty(obs_dim), empty(action_dim)
        self.rewards, self.dones, self.log_probs, self.values = (empty() for _ in range(4))
        self.advantages, self.returns = empty(), empty()
        self.valid = torch.ones(n_steps, num_envs, dtype=torch.bool, device=device)
        self.position = 0

    def add(
        self,
        obs: ArrayLike,
        action: ArrayLike,
        reward: ArrayLike,
        done: ArrayLike,
        log_prob: ArrayLike,
        value: ArrayLike,
        valid: ArrayLike = True,
    ) -> None:
        """Append one step.

        Args:
          obs: (num_envs, obs_dim), as the policy read it.
          action: (num_envs, action_dim).
          reward: (num_envs,); at a truncation, it includes the discounted value of the final observation,
            from which the episode would have continued.
          done: (num_envs,), whether this step ended the episode.
          log_prob, value: (num_envs,), of the policy that acted.
          valid: (num_envs,), False for steps to learn nothing from, which no minibatch contains.
        """
        t = self.position
        assert t < self.n_steps, "the buffer is full: reset it first"
        given = (obs, action, reward, done, log_prob, value, valid)
        own = (self.obs, self.actions, self.rewards, self.dones, self.log_probs, self.values)
        for tensor, values in zip((*own, self.valid), given, strict=True):
            tensor[t] = torch.as_tensor(values, dtype=tensor.dtype, device=tensor.device)
        self.position += 1

    def compute_gae(self, last_value: ArrayLike, gamma: float, gae_lambda: float) -> None:
        """Compute advantages by generalized advantage estimation, and returns.

        Schulman et al., "High-Dimensional Continuous Control Using GAE", ICLR 2016.

        Args:
          last_value: (num_envs,), of the observation after the last step.
          gamma: discount of rewards.
          gae_lambda: 0 for one-step temporal differences, 1 for discounted sums of rewards.
        """
        steps = self.position
        next_value = torch.as_tensor(last_value, dtype=torch.float32, device=self.values.device)
        next_value = next_value.expand(self.num_envs)
        advantage = torch.zeros_like(next_value)  # A_T = 0
        for t in reversed(range(steps)):
            not_done = 1.0 - self.dones[t]
            # delta_t = r_t + gamma (1 - done_t) V(s_{t+1}) - V(s_t)
            delta = self.rewards[t] + gamma * not_done * next_value - self.values[t]
            # A_t = delta_t + gamma lambda (1 - done_t) A_{t+1}
            advantage = delta + gamma * gae_lambda * not_done * advantage
            self.advantages[t] = advantage
            next_value = self.values[t]
        # R_t = A_t + V(s_t), what the value is fitted to
        self.returns[:steps] = self.advantages[:steps] + self.values[:steps]

    def get_batches(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> Iterator[Minibatch]:
        """Yield (obs, actions, old log-probs, returns, advantages) of minibatches, in random order.

        The valid steps are split into round(steps / batch_size) minibatches of nearly equal size.
        """
        steps = self.position
        indices = self.valid[:steps].flatten().nonzero()[:, 0]  # of valid steps
        # each (steps * num_envs, ...), so that one index selects a step of an env
        fields = [
            x[:steps].flatten(0, 1)
            for x in (self.obs, self.actions, self.log_probs, self.returns, self.advantages)
        ]
        shuffled = torch.randperm(len(indices), generator=generator).to(indices.device)
        n_batches = max(1, round(len(indices) / batch_size))
        for batch in indices[shuffled].tensor_split(n_batches):
            obs, actions, log_probs, returns, advantages = (x[batch] for x in fields)
            yield obs, actions, log_probs, returns, advantages

    def explained_variance(self) -> float:
        """Return 1 - Var[R - V] / Var[R] over valid steps; NaN where all returns are equal."""
        returns, values = self.returns[self.valid], self.values[self.valid]
        variance = returns.var(correction=0).item()
        if variance == 0:
            return math.nan
        return 1 - (returns - values).var(correction=0).item() / variance

    def reset(self) -> None:
        """Empty the buffer."""
        self.position = 0
