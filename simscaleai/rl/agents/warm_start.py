"""Start reinforcement learning from a cloned policy, by DAgger (Ross, Gordon and Bagnell, 2011).

In the first round the clone, a model of any architecture, acts, and the agent's actor is fitted to its
actions. In the other rounds the actor acts, and is fitted to the clone's actions in all states so far.
Every other environment adds the agent's exploration noise, as reinforcement learning will; the others do
not, so that the data also contain states near the end of a task.

An agent that reads images takes the weights of the clone instead, see `pixel_warm_start`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from simscaleai import seeding
from simscaleai.actions import ActionRange
from simscaleai.array_types import Array, BoolArray
from simscaleai.errors import UserError
from simscaleai.models.policy import ModelPolicy
from simscaleai.rl.agents.agent import Agent
from simscaleai.rl.agents.mlp_agent import MLPAgent
from simscaleai.rl.agents.pixel_ppo import PixelPPOAgent
from simscaleai.rl.agents.pixel_warm_start import continue_clone
from simscaleai.rl.collector import take_action_range
from simscaleai.rollout.gym_types import GymEnv
from simscaleai.rollout.loop import run_episodes

ROUNDS = 5
STEPS = 60  # per environment and round
EPOCHS = 15  # per round
BATCH = 512
LR = 1e-3


def warm_start(agent: Agent, path: str | Path, env: GymEnv) -> str:
    """Fit the actor of a new agent to the policy of a checkpoint; return a clause about the error.

    The running statistics of observations start with the states of the first round.

    Args:
      agent: the agent; its exploration noise is also used here.
      path: a checkpoint for `ModelPolicy.from_checkpoint`.
      env: a vector environment that is compatible with agent and policy.

    Raises:
      UserError: the checkpoint contains no policy, or one for another environment.
    """
    if not isinstance(agent, MLPAgent):
        raise UserError(
            f"The agent {agent.name!r} cannot start from a policy; leave init_from out, or use another agent."
        )
    policy = ModelPolicy.from_checkpoint(path, str(agent.device))
    if policy.contract is not None and hasattr(env, "contract"):
        policy.contract.require(env.contract)
    actions = ActionRange.of(getattr(env, "single_action_space", env.action_space))
    take_action_range(agent, actions)
    # 31 bits: environments of other packages accept no larger seeds
    seed = agent.config.seed
    seeds = (seeding.derive_seed(seed, "warm-start", i) % 2**31 for i in count())
    if isinstance(agent, PixelPPOAgent):
        return continue_clone(agent, policy, env, seeds, STEPS, str(path))
    dagger = _DAggerPolicy(policy, agent, actions)
    episodes = run_episodes(env, dagger, seeds)
    parameters = list(agent.actor.parameters())
    optimizer = torch.optim.Adam(parameters, lr=LR)
    error = torch.zeros(())
    for k in range(ROUNDS):
        dagger.by_actor = k > 0
        while len(dagger.states) < STEPS * (k + 1):
            next(episodes)
        observations = torch.cat(dagger.states)  # (steps * n, obs_dim), of all rounds
        if k == 0:
            agent.obs_rms.update(observations)
        states = agent.normalized(observations.numpy())
        labels = torch.cat(dagger.labels).to(agent.device)  # (steps * n, action_dim)
        batches = EPOCHS * -(-len(states) // BATCH)
        for group in optimizer.param_groups:  # the cosine schedule of the last round ended at 0
            group["lr"] = LR
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, batches)
        for _ in range(EPOCHS):
            order = torch.randperm(len(states), generator=agent.generator).to(states.device)
            for batch in order.split(BATCH):
                predicted = agent.actor.output(
                    agent.actor.features(states[batch])
                )  # (B, action_dim)
                error = F.mse_loss(predicted, labels[batch])
                optimizer.zero_grad(set_to_none=True)
                error.backward()
                optimizer.step()
                schedule.step()
    return (
        f"the actor differs by {error.sqrt().item():.3f} (root mean square of an action's entries) on"
        f" {len(states)} steps"
    )


class _DAggerPolicy:
    """Policy of a DAgger round; records the states that it visits, each labeled by the clone.

    Attributes:
      by_actor: whether the agent's actor chooses the actions, instead of the clone.
      states: (n, obs_dim) of each step so far.
      labels: (n, action_dim) of each step so far, actions of the clone in [-1, 1].
    """

    def __init__(self, clone: ModelPolicy, agent: MLPAgent, actions: ActionRange) -> None:
        self._clone, self._agent, self._actions = clone, agent, actions
        self.by_actor = False
        self.states: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []

    def reset(
        self, mask: BoolArray, seeds: Sequence[int], instructions: Sequence[str] | None = None
    ) -> None:
        """Begin episodes; see `Policy.reset`."""
        self._clone.reset(mask, seeds, instructions)

    def act(self, obs: Mapping[str, Array]) -> NDArray[np.floating]:
        """Return the actions (n, action_dim) for a step of DAgger, in the range of the environment."""
        if not isinstance(obs, Mapping):
            raise UserError("A warm start needs an environment whose observations are dicts.")
        agent = self._agent
        state = agent.extractor(obs, True).copy()  # (n, obs_dim)
        labels = torch.from_numpy(self._actions.units(self._clone.act(obs)))
        self.states.append(torch.from_numpy(state))
        self.labels.append(labels)
        actions = labels
        if self.by_actor:
            with torch.no_grad():
                actions = agent.mean_actions(state).cpu()
        noisy = (torch.arange(len(state)) % 2).unsqueeze(1)  # (n, 1), every other env
        noise = torch.randn(actions.shape, generator=agent.generator) * noisy
        return self._actions.executed((actions + noise * agent.exploration_std.cpu()).numpy())
