"""Starting reinforcement learning from a policy that was cloned.

The clone, of whatever architecture, drives the environments first, and the agent's actor is fitted to the
actions it took. Then the actor drives, and is fitted to what the clone would have done in all that was seen
so far: DAgger (Ross, Gordon and Bagnell, 2011). Every other row is driven with the agent's exploration noise,
as it will be in learning, and the rest without, so that there are also steps of the end of a task.
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
from simscaleai.rl.agents.stepping import Stepper

ROUNDS = 5
STEPS = 60  # of each environment in a round
EPOCHS = 15  # of a round
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
    stepper = Stepper(env, agent.view)
    agent.take_actions(stepper.actions)
    teacher = _Teacher(policy, agent, stepper)
    parameters = list(agent.network.actor.parameters())
    optimizer = torch.optim.Adam(parameters, lr=LR)
    error = torch.zeros(())
    for k in range(ROUNDS):
        observations, labels = teacher.drive(by_actor=k > 0)
        if k == 0:
            agent.obs_moments.update(observations)
        rows = agent.normalized(observations.numpy(), agent.normalizer())
        labels = labels.to(agent.device)
        batches = EPOCHS * -(-len(rows) // BATCH)
        for group in optimizer.param_groups:
            group["lr"] = LR
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches)
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


class _Teacher:
    """What the policy would do in all that was seen so far."""

    def __init__(self, policy: ModelPolicy, agent: PPOAgent, stepper: Stepper) -> None:
        self._policy, self._agent, self._stepper = policy, agent, stepper
        self._seen: list[torch.Tensor] = []
        self._labels: list[torch.Tensor] = []
        stepper.reset(seed=agent.config.seed)
        if not isinstance(stepper.raw, dict):
            raise UserError("A warm start needs an environment whose observations are dicts.")
        policy.reset(np.ones(stepper.n, dtype=bool), [0] * stepper.n)

    def drive(self, by_actor: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Observations (k, obs_dim) of this and all earlier rounds, and actions (k, action_dim) for them.

        Actions are those of the agent, in [-1, 1].
        """
        agent, stepper = self._agent, self._stepper
        noisy = (torch.arange(stepper.n) % 2).unsqueeze(1)
        std = agent.network.log_std.detach().exp().cpu() * noisy
        for _ in range(STEPS):
            seen = agent.view(stepper.raw).copy()
            labels = torch.from_numpy(stepper.actions.units(self._policy.act(stepper.raw)))
            self._seen.append(torch.from_numpy(seen))
            self._labels.append(labels)
            actions = labels
            if by_actor:
                with torch.no_grad():
                    rows = agent.normalized(seen, agent.normalizer())
                    actor = agent.network.actor
                    actions = actor.output(actor.features(rows)).cpu()
            noise = torch.randn(actions.shape, generator=agent.noise) * std
            step = stepper.step((actions + noise).numpy())
            done = step.terminated | step.truncated
            if done.any():
                self._policy.reset(done, [0] * stepper.n)
        return torch.cat(self._seen), torch.cat(self._labels)
