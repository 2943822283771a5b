"""Starting reinforcement learning from a policy that was cloned.

The clone, of whatever architecture, drives the environments with a little noise, and the agent's actor is
fitted to the actions it would have taken in what it saw (as DAgger labels states: Ross, Gordon and Bagnell,
2011, with the learner's own noise in place of the learner).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from simscaleai.errors import UserError
from simscaleai.models.policy import ModelPolicy
from simscaleai.rl.agents.ppo import PPOAgent
from simscaleai.rl.agents.stepping import Stepper, flatten

STEPS = 100  # of each environment
EPOCHS = 60
BATCH = 512
LR = 1e-3


def warm_start(agent: PPOAgent, path: str | Path, env: Any) -> str:
    """Fit the actor of a new agent to the policy of a checkpoint; say how well.

    The running statistics of observations start with what was seen here too.

    Args:
      agent: with its exploration noise, which is also that of the collection.
      path: a checkpoint that `ModelPolicy.from_checkpoint` reads.
      env: a vector environment, of the agent's width, that fits the policy.

    Raises:
      UserError: the checkpoint holds no policy, or one for another environment.
    """
    policy = ModelPolicy.from_checkpoint(path, str(agent.device))
    if policy.contract is not None and hasattr(env, "contract"):
        policy.contract.require(env.contract)
    observations, labels = _drive(agent, policy, env)
    agent.obs_moments.update(observations)
    rows = agent.normalized(observations.numpy(), agent.normalizer())
    labels = labels.to(agent.device)
    parameters = list(agent.network.actor.parameters())
    optimizer = torch.optim.Adam(parameters, lr=LR)
    batches = EPOCHS * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches)
    error = torch.zeros(())
    for _ in range(EPOCHS):
        order = torch.randperm(len(rows), generator=agent.noise).to(rows.device)
        for chosen in order.split(BATCH):
            actions = agent.network.actor.output(agent.network.actor.features(rows[chosen]))
            error = F.mse_loss(actions, labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            error.backward()
            optimizer.step()
            schedule.step()
    return (
        f"the actor differs by {error.sqrt().item():.3f} (root mean square of an action's entries) on"
        f" {len(rows)} steps"
    )


def _drive(agent: PPOAgent, policy: ModelPolicy, env: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Observations (k, obs_dim) that the policy came upon, and its actions (k, action_dim) there."""
    std = agent.network.log_std.detach().exp().cpu()
    stepper = Stepper(env)
    stepper.reset(seed=agent.config.seed)
    raw = stepper.raw
    if not isinstance(raw, dict):
        raise UserError("A warm start needs an environment whose observations are dicts.")
    policy.reset(np.ones(stepper.n, dtype=bool), [0] * stepper.n)
    seen, labels = [], []
    for _ in range(STEPS):
        actions = torch.from_numpy(policy.act(stepper.raw))
        seen.append(torch.from_numpy(flatten(stepper.raw).copy()))
        labels.append(actions)
        noise = torch.randn(actions.shape, generator=agent.noise) * std
        step = stepper.step((actions + noise).numpy())
        done = step.terminated | step.truncated
        if done.any():
            policy.reset(done, [0] * stepper.n)
    return torch.cat(seen), torch.cat(labels)
