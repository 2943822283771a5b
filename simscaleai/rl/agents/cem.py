"""The cross-entropy method: sample policies, keep the best, and fit a Gaussian to them.

    agent = CEMAgent(obs_dim=20, action_dim=4, config=CEMConfig(n_steps=25))
    history = agent.train(make_vec_env("reach", 128, autoreset_mode="same_step"))

de Boer et al., "A Tutorial on the Cross-Entropy Method", 2005. Each environment runs its own policy, an
affine function of the state, for `n_steps` steps. The method uses no gradient and no value function, and
scores whole policies instead of actions: a simple baseline, which shows whether a task needs more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from simscaleai.convert import converted
from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.models.fitting import check_fit, require_fit
from simscaleai.models.mlp import MLPPolicy
from simscaleai.rl.agents.actor_critic import create_actor
from simscaleai.rl.agents.agent import Metrics, State, register_agent
from simscaleai.rl.agents.agent_config import AgentConfig
from simscaleai.rl.agents.metric_group import MetricGroup
from simscaleai.rl.agents.mlp_agent import MLPAgent
from simscaleai.rl.agents.running_mean_std import RunningMeanStd
from simscaleai.rl.agents.vec_env_adapter import Transition


@dataclass
class CEMConfig(AgentConfig):
    """Settings of the cross-entropy method: those of `AgentConfig`, and the following.

    A policy is run for `n_steps` steps before it is scored.

    Attributes:
      elite_fraction: fraction of the policies that the next Gaussian is fitted to.
      init_std: initial standard deviation of each parameter.
      min_std: lower bound of the standard deviation, so that the search does not stop early.
    """

    elite_fraction: float = 0.15
    init_std: float = 0.5
    min_std: float = 0.02
    log_every: int = field(
        default=1, kw_only=True
    )  # updates are few: one per generation of policies

    def problems(self) -> list[str]:
        """Return a clause for each setting that is out of range."""
        wrong = super().problems() + self.not_positive("init_std")
        if not 0 < self.elite_fraction <= 1:
            wrong.append(f"elite_fraction is {self.elite_fraction}, it lies between 0 and 1")
        return wrong


@register_agent("cem")
class CEMAgent(MLPAgent):
    """A Gaussian over policies; its mean is the learned policy. The arguments are those of `PPOAgent`."""

    config_class = CEMConfig
    metric_groups: ClassVar[tuple[MetricGroup, ...]] = (
        MetricGroup(
            "Score of the policies",
            "mean reward per step",
            {"elite_score": "best ones", "mean_score": "all"},
            progress={"elite_score": "score {:.3f}"},
        ),
        MetricGroup(
            "Width of the search",
            "standard deviation",
            {"parameter_std": "parameters"},
            from_zero=True,
        ),
    )
    config: CEMConfig

    @converted
    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        config: CEMConfig | None = None,
        device: str = "cpu",
        processes: Processes | None = None,
    ) -> None:
        config = config or CEMConfig()
        super().__init__(obs_dim, action_dim, config, device, processes)
        with torch.random.fork_rng(devices=[]):
            self._actor = create_actor(obs_dim, action_dim, 1, 0).to(self.device)
        mean = torch.zeros(sum(p.numel() for p in self._actor.parameters()))  # (d,)
        vector_to_parameters(mean.to(self.device), self._actor.parameters())
        self.std = torch.full_like(mean, config.init_std)  # (d,)

    @property
    def actor(self) -> MLPPolicy:
        return self._actor

    @property
    def exploration_std(self) -> torch.Tensor:
        return torch.zeros(self.action_dim)

    def begin(self, num_envs: int, resumed: bool) -> None:
        self._rewards, self._steps = np.zeros(num_envs), np.zeros(num_envs)
        self._rollout_obs = RunningMeanStd(self.obs_dim)
        self._policies: torch.Tensor | None = None  # (n, d), drawn at the first step of a rollout

    @torch.no_grad()
    def act(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._policies is None:
            # theta_i ~ N(mean, std^2), the parameters of the policy in environment i
            mean = parameters_to_vector(self._actor.parameters()).cpu()  # (d,)
            noise = torch.randn(len(obs), len(mean), generator=self.generator)
            self._policies = mean + self.std * noise
        self._rollout_obs.update(torch.from_numpy(obs))
        weights, bias = self._policies.split([self.action_dim * self.obs_dim, self.action_dim], 1)
        # (n, action_dim, obs_dim); a_i = W_i s_i + b_i
        weights = weights.view(-1, self.action_dim, self.obs_dim)
        state = self.normalized(obs).cpu()  # (n, obs_dim)
        actions: NDArray[np.float32] = (torch.einsum("nao,no->na", weights, state) + bias).numpy()
        return actions

    def record(self, transition: Transition) -> None:
        # steps of unstable physics, and steps that only began an episode, are not scored
        self._rewards += np.where(transition.learnable, transition.reward, 0.0)
        self._steps += transition.learnable

    @torch.no_grad()
    def update(self) -> Metrics:
        assert self._policies is not None
        # mean reward per step: envs that began an episode have one step less
        scores = torch.from_numpy(self._rewards / np.maximum(self._steps, 1))  # (n,)
        # `all_gather` returns them in the order of ranks: all processes fit the same Gaussian
        everyone = self.processes.all_gather(
            (self._policies[self._steps > 0], scores[self._steps > 0])
        )
        policies, scores = (torch.cat(parts) for parts in zip(*everyone, strict=True))
        self.obs_rms.merge(self._rollout_obs.all_reduce(self.processes))
        self.begin(len(self._rewards), resumed=True)
        if not len(scores):
            return {}
        elite = scores.topk(max(1, round(self.config.elite_fraction * len(scores)))).indices
        best = policies[elite]  # (elites, d)
        # mean = mean of the best, std = their standard deviation, not below min_std
        vector_to_parameters(best.mean(0).to(self.device), self._actor.parameters())
        self.std = best.std(0, correction=0).clamp(min=self.config.min_std)
        return {
            "elite_score": scores[elite].mean().item(),
            "mean_score": scores.mean().item(),
            "parameter_std": self.std.mean().item(),
        }

    def state_dict(self) -> State:
        return {
            "actor": dict(self._actor.state_dict()),
            "std": self.std,
            "obs_rms": dict(self.obs_rms.state_dict()),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: State, source: str) -> None:
        check_fit(self._actor.state_dict(), state["actor"], source)
        check_fit(self.obs_rms.state_dict(), state["obs_rms"], source)
        check_fit({"std": self.std}, {"std": state["std"]}, source)
        if not (state["std"] >= 0).all():
            raise UserError(f"The checkpoint {source!r} has standard deviations below 0.")
        self._actor.load_state_dict(state["actor"])
        self.obs_rms.load_state_dict(state["obs_rms"])
        self.std = state["std"].clone()
        if self.processes.is_main:
            self.generator.set_state(state["generator"].clone())
        else:  # with the RNG state of the main process, this one would draw the same policies
            self.reseed(self.updates)

    @classmethod
    def check_compatible(
        cls, obs_dim: int, action_dim: int, config: AgentConfig, state: State, source: str
    ) -> None:
        require_fit(state["actor"], lambda: create_actor(obs_dim, action_dim, 1, 0), source)
