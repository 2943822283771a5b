"""Start reinforcement learning from a cloned policy, by DAgger (Ross, Gordon and Bagnell, 2011).

The clone, of whatever architecture, acts first, and the agent's actor is fitted to its actions. Then the
actor acts, and is fitted to what the clone would have done in all states so far. Every other environment
adds the agent's exploration noise, as it will while learning; the rest does not, so that there are also
states near the end of a task.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from simscaleai.errors import UserError
from simscaleai.models.policy import ModelPolicy
from simscaleai.rl.agents.agent import Agent
from simscaleai.rl.agents.mlp_agent import MLPAgent
from simscaleai.rl.agents.vec_env_adapter import VecEnvAdapter
from simscaleai.rl.collector import take_action_range

ROUNDS = 5
STEPS = 60  # of each environment in a round
EPOCHS = 15  # of a round
BATCH = 512
LR = 1e-3


def warm_start(agent: Agent, path: str | Path, env: Any) -> str:
    """Fit the actor of a new agent to the policy of a checkpoint; say how well.

    The running statistics of observations start with the states of the first round.

    Args:
      agent: with its exploration noise, which is also that of the collection.
      path: a checkpoint that `ModelPolicy.from_checkpoint` reads.
      env: a vector environment, of the agent's width, that fits the policy.

    Raises:
      UserError: the checkpoint holds no policy, or one for another environment.
    """
    if not isinstance(agent, MLPAgent):
        raise UserError(
            f"The agent {agent.name!r} cannot start from a policy; leave init_from out, or use another agent."
        )
    policy = ModelPolicy.from_checkpoint(path, str(agent.device))
    if policy.contract is not None and hasattr(env, "contract"):
        policy.contract.require(env.contract)
    adapter = VecEnvAdapter(env, agent.extractor)
    take_action_range(agent, adapter.actions)
    expert = _Expert(policy, agent, adapter)
    parameters = list(agent.actor.parameters())
    optimizer = torch.optim.Adam(parameters, lr=LR)
    error = torch.zeros(())
    for k in range(ROUNDS):
        observations, labels = expert.collect(by_actor=k > 0)
        if k == 0:
            agent.obs_rms.update(observations)
        states = agent.normalized(observations.numpy())  # (k, obs_dim)
        labels = labels.to(agent.device)
        batches = EPOCHS * -(-len(states) // BATCH)
        for group in optimizer.param_groups:
            group["lr"] = LR
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches)
        for _ in range(EPOCHS):
            order = torch.randperm(len(states), generator=agent.generator).to(states.device)
            for batch in order.split(BATCH):
                actions = agent.actor.output(agent.actor.features(states[batch]))
                error = F.mse_loss(actions, labels[batch])
                optimizer.zero_grad(set_to_none=True)
                error.backward()
                optimizer.step()
                schedule.step()
    return (
        f"the actor differs by {error.sqrt().item():.3f} (root mean square of an action's entries) on"
        f" {len(states)} steps"
    )


class _Expert:
    """The dataset of DAgger: states of all rounds, each labeled by the policy that is imitated."""

    def __init__(self, policy: ModelPolicy, agent: MLPAgent, adapter: VecEnvAdapter) -> None:
        self._policy, self._agent, self._adapter = policy, agent, adapter
        self._states: list[torch.Tensor] = []
        self._labels: list[torch.Tensor] = []
        adapter.reset(seed=agent.config.seed)
        if not isinstance(adapter.raw, dict):
            raise UserError("A warm start needs an environment whose observations are dicts.")
        policy.reset(np.ones(adapter.num_envs, dtype=bool), [0] * adapter.num_envs)

    def collect(self, by_actor: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Run a round; return states (k, obs_dim) of all rounds and labels (k, action_dim) in [-1, 1]."""
        agent, adapter = self._agent, self._adapter
        noisy = (torch.arange(adapter.num_envs) % 2).unsqueeze(1)  # (n, 1), every other env
        std = agent.exploration_std.cpu() * noisy
        for _ in range(STEPS):
            state = agent.extractor(adapter.raw).copy()
            labels = torch.from_numpy(adapter.actions.units(self._policy.act(adapter.raw)))
            self._states.append(torch.from_numpy(state))
            self._labels.append(labels)
            actions = labels
            if by_actor:
                with torch.no_grad():
                    actions = agent.mean_actions(state).cpu()
            noise = torch.randn(actions.shape, generator=agent.generator) * std
            done = adapter.step((actions + noise).numpy()).done
            if done.any():
                self._policy.reset(done, [0] * adapter.num_envs)
        return torch.cat(self._states), torch.cat(self._labels)
