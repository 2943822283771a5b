"""Proximal policy optimization on one environment or on many at once.

    agent = PPOAgent(obs_dim=20, action_dim=4, config=PPOConfig(n_steps=16, batch_size=1024))
    history = agent.train(make_vec_env("reach", 256, autoreset_mode="same_step"))
    action = agent.predict(obs)

Schulman et al., "Proximal Policy Optimization Algorithms", 2017, with the details that matter in practice: a
truncated episode is bootstrapped from the value of its final observation, observations are normalized by
running statistics, and rewards are divided by the standard deviation of their discounted sum.

Traps: values are in units of the scaled reward. `n_steps` counts the steps of one environment, so a rollout
has `n_steps * num_envs` steps.
"""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from simscaleai import seeding
from simscaleai.convert import converted
from simscaleai.distributed import Processes, all_reduce_gradients
from simscaleai.errors import UserError
from simscaleai.models.fitting import check_fit, check_slots, require_fit
from simscaleai.models.mlp import MLPPolicy
from simscaleai.models.sizes import within_memory
from simscaleai.rl.agents.actor_critic import ActorCritic
from simscaleai.rl.agents.agent import Metrics, State, register_agent
from simscaleai.rl.agents.agent_config import AgentConfig
from simscaleai.rl.agents.metric_group import MetricGroup
from simscaleai.rl.agents.mlp_agent import MLPAgent
from simscaleai.rl.agents.ppo_config import PPOConfig
from simscaleai.rl.agents.ppo_metrics import METRIC_GROUPS
from simscaleai.rl.agents.rollout_buffer import Minibatch, RolloutBuffer
from simscaleai.rl.agents.running_mean_std import RunningMeanStd
from simscaleai.rl.agents.vec_env_adapter import Transition

__all__ = ["ActorCritic", "PPOAgent", "PPOConfig", "RolloutBuffer"]

MIN_LR, MAX_LR = 1e-5, 1e-2  # bounds of the adaptive learning rate
METRICS = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
APPROX_KL = METRICS.index("approx_kl")


@register_agent("ppo")
class PPOAgent(MLPAgent):
    """An actor and a critic that learn from reward.

    Args:
      obs_dim: width of the flattened observation, without images.
      action_dim: width of an action.
      config: see `PPOConfig`.
      device: device of the networks: "cpu", "cuda", "auto", ...
      processes: the processes that train this agent together. Each collects its own rollouts. Gradients are
        averaged at every optimizer step and running statistics merged after every rollout, so that the
        agents of all processes stay equal.

    Attributes:
      network: the `ActorCritic`.
      lr: the current learning rate.
      return_rms: running statistics of discounted sums of rewards.
      timesteps, updates: numbers of steps and updates so far.
      contract: contract of the environment of the last training; None if it has none.
      actions: action range of that environment; [-1, 1] before any training.
    """

    config_class = PPOConfig
    metric_groups: ClassVar[tuple[MetricGroup, ...]] = METRIC_GROUPS
    # chosen for 100 environments and more; the defaults of `PPOConfig` suit a single one
    run_defaults: ClassVar[State] = {
        "n_steps": 16,
        "batch_size": 1024,
        "n_epochs": 5,
        "entropy_coef": 0.0,
        "log_std_init": -0.5,
        "target_kl": 0.01,
        "gamma": 0.95,
    }
    config: PPOConfig
    buffer: RolloutBuffer
    discounted_return: NDArray[np.float64]  # (n,), of the current episodes

    @converted
    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        config: PPOConfig | None = None,
        device: str = "cpu",
        processes: Processes | None = None,
    ) -> None:
        config = config or PPOConfig()
        super().__init__(obs_dim, action_dim, config, device, processes)
        # One seed gives the same weights in all processes; the RNG state of the caller does not change.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeding.derive_seed(config.seed, "ppo-weights"))
            with within_memory(f"A network of hidden_dim={config.hidden_dim}"):
                self.network = self.make_network(obs_dim, action_dim, config).to(self.device)
        self.optimizer = torch.optim.Adam(
            self.parameter_groups(), lr=config.lr, eps=1e-5, fused=self.device.type != "mps"
        )
        self.lr = config.lr
        self.return_rms = RunningMeanStd(1)
        self.discounted_return = np.zeros(0)

    @property
    def actor(self) -> MLPPolicy:
        return self.network.actor

    @property
    def exploration_std(self) -> torch.Tensor:
        return self.network.log_std.detach().exp()

    @property
    def warmed_up(self) -> bool:
        """Whether the policy learns, and not the critic alone."""
        return self.updates >= self.config.critic_warmup

    def further_losses(self) -> list[torch.Tensor]:
        """Return what is added to the loss of a minibatch that the network has just evaluated."""
        return []

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimizer's groups; one with "own_lr" keeps it, the others have `self.lr`."""
        return [{"params": list(self.network.parameters())}]

    def begin(self, num_envs: int, resumed: bool) -> None:
        sizes = (self.config.n_steps, self.obs_dim, self.action_dim)
        self.buffer = RolloutBuffer(*sizes, str(self.device), num_envs)
        if not resumed:
            self.discounted_return = np.zeros(num_envs)

    @torch.no_grad()
    def act(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.buffer.position == 0:
            # of this rollout alone: merged over all processes at its end
            self._rollout_obs = RunningMeanStd(self.state_dim)
            self._rollout_returns = RunningMeanStd(1)
            # of all samples that this process knows: it normalizes by them until then
            self._local_obs, self._local_returns = deepcopy(self.obs_rms), deepcopy(self.return_rms)
        for rms in (self._rollout_obs, self._local_obs):
            rms.update(torch.from_numpy(obs[:, : self.state_dim]))
        self._normalizer = self.normalizer(self._local_obs)
        self._obs = self.normalized(obs, self._normalizer)  # (n, obs_dim)
        # actions (n, action_dim), log-probabilities (n,), values (n,)
        self._actions, self._log_prob, self._value = self.network.get_action(
            self._obs, generator=self.generator
        )
        actions: NDArray[np.float32] = self._actions.cpu().numpy()
        return actions

    @torch.no_grad()
    def record(self, transition: Transition) -> None:
        gamma, valid = self.config.gamma, transition.learnable
        reward = transition.reward.copy()  # (n,)
        if self.config.scale_reward:
            # G_t = gamma G_{t-1} + r_t, and r_t / std(G)
            self.discounted_return = self.discounted_return * gamma + transition.reward
            for rms in (self._rollout_returns, self._local_returns):
                rms.update(torch.from_numpy(self.discounted_return[valid, None]))
            self.discounted_return[transition.done] = 0.0
            reward /= self._local_returns.scale()
        cut = transition.bootstraps  # (n,) bool, truncated episodes
        if cut.any():  # r_t + gamma V(s_{t+1}): the episode would have continued from there
            final_obs = self.normalized(transition.final_obs[cut], self._normalizer)
            reward[cut] += gamma * self.network.value(final_obs).cpu().numpy()
        if (diverged := transition.diverged).any():
            # r_t = V(s_t): an advantage of 0 here, and a return of V(s_t) for the steps before. The agent
            # gains nothing by making the physics unstable to escape low rewards.
            reward[diverged] = self._value.cpu().numpy()[diverged]
        self.buffer.add(
            self._obs, self._actions, reward, transition.done, self._log_prob, self._value, valid
        )
        self._next_obs = transition.obs

    @torch.no_grad()
    def finish_rollout(self) -> None:
        """Compute the advantages of the buffer and merge the running statistics of all processes."""
        next_value = self.network.value(self.normalized(self._next_obs, self._normalizer))
        self.buffer.compute_gae(next_value, self.config.gamma, self.config.gae_lambda)
        self.obs_rms.merge(self._rollout_obs.all_reduce(self.processes))
        self.return_rms.merge(self._rollout_returns.all_reduce(self.processes))

    def update(self) -> Metrics:
        self.finish_rollout()
        config, buffer = self.config, self.buffer
        if self.processes.size == 1 and not buffer.valid.any():
            buffer.reset()
            return {}
        epochs: list[torch.Tensor] = []  # (minibatches, 5) of each epoch
        for _ in range(config.n_epochs):
            # `_adapt_lr` may have changed the learning rate after the last epoch
            for group in self.optimizer.param_groups:
                group["lr"] = group.get("own_lr", self.lr)
            batches = buffer.get_batches(config.batch_size, self.generator)
            epochs.append(torch.stack([self._optimize(batch) for batch in batches]))
            if config.target_kl > 0 and self.warmed_up:
                self._adapt_lr(float(epochs[-1][:, APPROX_KL].mean()))
        metrics = dict(zip(METRICS, torch.cat(epochs).mean(0).tolist(), strict=True))
        if not math.isfinite(metrics["policy_loss"] + metrics["value_loss"]):
            raise UserError(
                f"At update {self.updates + 1} the loss is not finite; lower lr, or look for extreme"
                " rewards or observations."
            )
        metrics["explained_variance"] = buffer.explained_variance()
        metrics["lr"] = self.lr
        metrics["action_std"] = self.exploration_std.mean().item()
        buffer.reset()
        return metrics

    def _optimize(self, batch: Minibatch) -> torch.Tensor:
        """Take one optimizer step; return the `METRICS` of it, (5,)."""
        config, eps = self.config, self.config.clip_epsilon
        obs, actions, old_log_prob, returns, advantages = (
            batch  # (B, obs_dim), (B, action_dim), 3x (B,)
        )
        log_prob, value, entropy = self.network.evaluate_actions(obs, actions)  # (B,) each
        old_value = returns - advantages
        if len(advantages) > 1:  # a single one has no standard deviation
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

        # L_pi = -mean min(r A, clip(r, 1 - eps, 1 + eps) A),  r = pi(a|s) / pi_old(a|s)
        log_ratio = log_prob - old_log_prob
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - eps, 1 + eps)
        policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()

        # L_V = mean (V(s) - R)^2, by `clip_value` also of V clipped around the old value, and the larger
        squared_error = (value - returns) ** 2
        if config.clip_value:
            clipped_value = old_value + (value - old_value).clamp(-eps, eps)
            squared_error = torch.max(squared_error, (clipped_value - returns) ** 2)
        value_loss, mean_entropy = squared_error.mean(), entropy.mean()

        # L = L_pi + c_v L_V - c_e H[pi]
        loss = config.value_loss_coef * value_loss
        if self.warmed_up:
            loss = loss + policy_loss - config.entropy_coef * mean_entropy
        for further in self.further_losses():
            loss = loss + further
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        all_reduce_gradients(self.network, self.processes)
        nn.utils.clip_grad_norm_(self.network.parameters(), config.max_grad_norm)
        self.optimizer.step()
        with torch.no_grad():
            # KL(pi_old || pi) ~ mean(r - 1 - log r): k3 of Schulman, "Approximating KL Divergence", 2020
            approx_kl = (ratio - 1 - log_ratio).mean()
            clip_fraction = ((ratio - 1).abs() > eps).float().mean()
            return torch.stack((policy_loss, value_loss, mean_entropy, approx_kl, clip_fraction))

    def _adapt_lr(self, kl: float) -> None:
        # The average over all processes gives all of them the same learning rate.
        kl = self.processes.all_reduce_mean(torch.tensor(kl, dtype=torch.float64)).item()
        if kl > 2 * self.config.target_kl:
            self.lr = max(self.lr / 1.5, MIN_LR)
        elif kl < self.config.target_kl / 2:
            self.lr = min(self.lr * 1.5, MAX_LR)

    def state_dict(self) -> State:
        return {
            "network": dict(self.network.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "obs_rms": dict(self.obs_rms.state_dict()),
            "return_rms": dict(self.return_rms.state_dict()),
            "discounted_return": torch.from_numpy(self.discounted_return.copy()),
            "generator": self.generator.get_state(),
            "lr": self.lr,
        }

    def load_state_dict(self, state: State, source: str) -> None:
        # Check everything before changing anything: a refused file leaves the agent as it was.
        own = {"network": self.network, "obs_rms": self.obs_rms, "return_rms": self.return_rms}
        for name, module in own.items():
            check_fit(module.state_dict(), state[name], source)
        slots = state["optimizer"]["state"]
        check_slots(slots, [p for g in self.parameter_groups() for p in g["params"]], source)
        lr = float(state["lr"])
        if not 0 <= lr < math.inf:
            raise UserError(f"The checkpoint {source!r} has the learning rate {lr}.")
        for name, module in own.items():
            module.load_state_dict(state[name])
        # Only Adam's moment estimates are loaded; learning rate, betas, ... come from the settings.
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self.discounted_return = state["discounted_return"].double().numpy().copy()
        self.lr = lr
        if self.processes.is_main:
            self.generator.set_state(state["generator"].clone())
        else:  # with the RNG state of the main process, this one would repeat its noise
            self.reseed(self.updates)

    @classmethod
    def check_compatible(
        cls, obs_dim: int, action_dim: int, config: AgentConfig, state: State, source: str
    ) -> None:
        require_fit(state["network"], lambda: cls.make_network(obs_dim, action_dim, config), source)

    @classmethod
    def make_network(cls, obs_dim: int, action_dim: int, config: AgentConfig) -> ActorCritic:
        """Return the networks that these sizes and settings describe, with new weights."""
        own = cast(PPOConfig, config)  # callers pass settings of `config_class`
        return ActorCritic(
            obs_dim,
            action_dim,
            own.hidden_dim,
            own.n_layers,
            log_std_init=own.log_std_init,
            separate_critic=own.separate_critic,
            orthogonal_init=own.orthogonal_init,
        )
