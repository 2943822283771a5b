"""What a rollout collected, as whole tensors: steps along the first axis, environments along the second."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from simscaleai.memory import require_memory

Minibatch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class RolloutBuffer:
    """`n_steps` steps of `num_envs` environments.

    Args:
      n_steps: steps of each environment.
      obs_dim, action_dim: widths.
      device: where the tensors are.
      num_envs: how many environments; with 1, `add` also takes values without their axis.
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

        self.obs, self.actions = empty(obs_dim), empty(action_dim)
        self.rewards, self.dones, self.log_probs, self.values = (empty() for _ in range(4))
        self.advantages, self.returns = empty(), empty()
        self.valid = torch.ones(n_steps, num_envs, dtype=torch.bool, device=device)
        self.position = 0

    def add(
        self,
        obs: Any,
        action: Any,
        reward: Any,
        done: Any,
        log_prob: Any,
        value: Any,
        valid: Any = True,
    ) -> None:
        """Append one step.

        Args:
          obs: (num_envs, obs_dim), what the policy saw.
          action: (num_envs, action_dim).
          reward: (num_envs,); at a truncation with the discounted value of the final observation added,
            which is what the episode would have gone on to.
          done: (num_envs,), whether this step ended the episode.
          log_prob, value: (num_envs,), of the policy at that time.
          valid: (num_envs,), False where the environment did not act but began its next episode: such a
            step never gets into a minibatch.
        """
        t = self.position
        assert t < self.n_steps, "the buffer is full: reset it first"
        given = (obs, action, reward, done, log_prob, value, valid)
        own = (self.obs, self.actions, self.rewards, self.dones, self.log_probs, self.values)
        for rows, values in zip((*own, self.valid), given, strict=True):
            rows[t] = torch.as_tensor(values, dtype=rows.dtype, device=rows.device)
        self.position += 1

    def compute_gae(self, last_value: Any, gamma: float, gae_lambda: float) -> None:
        """Advantages by generalized advantage estimation, and returns, advantage + value.

            delta_t = r_t + gamma (1 - done_t) V_{t+1} - V_t
            A_t = delta_t + gamma lambda (1 - done_t) A_{t+1}

        Schulman et al., "High-Dimensional Continuous Control Using GAE", ICLR 2016.

        Args:
          last_value: (num_envs,), of the observation after the last step.
        """
        steps = self.position
        following = torch.as_tensor(last_value, dtype=torch.float32, device=self.values.device)
        following = following.expand(self.num_envs)
        advantage = torch.zeros_like(following)
        for t in reversed(range(steps)):
            going = 1.0 - self.dones[t]
            delta = self.rewards[t] + gamma * going * following - self.values[t]
            advantage = delta + gamma * gae_lambda * going * advantage
            self.advantages[t] = advantage
            following = self.values[t]
        self.returns[:steps] = self.advantages[:steps] + self.values[:steps]

    def get_batches(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> Iterator[Minibatch]:
        """One pass in random order: (obs, actions, old log-probs, returns, advantages) of each minibatch.

        What is left over when `batch_size` does not divide the steps makes a smaller last one, or joins
        the one before if it is less than half as large.
        """
        steps = self.position
        rows = self.valid[:steps].flatten().nonzero()[:, 0]
        fields = [
            x[:steps].flatten(0, 1)
            for x in (self.obs, self.actions, self.log_probs, self.returns, self.advantages)
        ]
        order = rows[torch.randperm(len(rows), generator=generator).to(rows.device)]
        batches = max(1, round(len(rows) / batch_size))
        for chosen in order.tensor_split(batches):
            obs, actions, log_probs, returns, advantages = (x[chosen] for x in fields)
            yield obs, actions, log_probs, returns, advantages

    def reset(self) -> None:
        """Forget everything."""
        self.position = 0
