"""Proximal policy optimization on one environment or on many at once.

    agent = PPOAgent(obs_dim=20, action_dim=4, config=PPOConfig(n_steps=16, batch_size=1024))
    history = agent.train(make_vec_env("reach", 256, autoreset_mode="same_step"))
    action = agent.predict(obs)

Schulman et al., "Proximal Policy Optimization Algorithms", 2017, with the details that decide whether it
works: a truncated episode goes on in its value, observations are normalized by running statistics and
rewards scaled by the spread of their discounted sum, all saved with the agent.

Traps: values are in units of the scaled reward. `n_steps` is for each environment, so that one rollout
has `n_steps * num_envs` steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from simscaleai import seeding
from simscaleai.config import load_config
from simscaleai.contract import EnvContract
from simscaleai.convert import Converted, converted
from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.guards import guarded
from simscaleai.models.fitting import check_fit, check_slots, require_fit
from simscaleai.models.inference import resolve_device
from simscaleai.models.normalization import Normalizer
from simscaleai.models.policy import ModelPolicy
from simscaleai.observations import ObsSpec
from simscaleai.rl.agents.buffer import RolloutBuffer
from simscaleai.rl.agents.moments import RunningMoments
from simscaleai.rl.agents.networks import ActorCritic
from simscaleai.rl.agents.rollout import RolloutState, collect
from simscaleai.rl.agents.stepping import Stepper
from simscaleai.rl.agents.view import StateView
from simscaleai.storage.checkpoint import load_checkpoint, save_checkpoint

__all__ = ["ActorCritic", "PPOAgent", "PPOConfig", "RolloutBuffer"]

MIN_LR, MAX_LR = 1e-5, 1e-2  # between which an adaptive learning rate stays
_REMEDY = "use another checkpoint of the run"


@dataclass
class PPOConfig(Converted):
    """Settings of PPO.

    Attributes:
      hidden_dim, n_layers: of the network; see `ActorCritic`, also for `log_std_init`,
        `separate_critic` and `orthogonal_init`.
      clip_epsilon: how far the ratio of new to old probabilities counts.
      value_loss_coef, entropy_coef: weights of the value's loss and of the entropy.
      max_grad_norm: largest norm of the gradient.
      gamma, gae_lambda: discount of rewards, and of the advantage's horizon.
      lr: of Adam.
      n_steps: steps of each environment in a rollout.
      n_epochs: passes over a rollout.
      batch_size: steps in a minibatch, of each process.
      total_timesteps: steps of all environments together.
      log_every: updates between records.
      target_kl: where above 0, the learning rate follows the measured KL divergence: it shrinks by 1.5
        when an epoch moved the policy more than twice as far, and grows when less than half as far.
      clip_value: keep the value within `clip_epsilon` of the old one.
      normalize_obs, scale_reward: see the module docstring.
      state_keys, relative_positions: see `view.StateView`.
      critic_warmup: updates at the start that train the value alone; for an actor that can already act.
      seed: decides weights, noise, minibatches and the environment's episodes.
    """

    hidden_dim: int = 256
    n_layers: int = 2
    clip_epsilon: float = 0.2
    value_loss_coef: float = 0.5
    entropy_coef: float = 0.01
    max_grad_norm: float = 0.5
    gamma: float = 0.99
    gae_lambda: float = 0.95
    lr: float = 3e-4
    n_steps: int = 2048
    n_epochs: int = 10
    batch_size: int = 64
    total_timesteps: int = 1_000_000
    log_every: int = 10
    log_std_init: float = 0.0
    separate_critic: bool = False
    orthogonal_init: bool = True
    target_kl: float = 0.0
    clip_value: bool = False
    normalize_obs: bool = True
    scale_reward: bool = True
    critic_warmup: int = 0
    state_keys: list[str] | None = None
    relative_positions: bool = False
    seed: int = 0


class PPOAgent:
    """A policy that learns from reward.

    Args:
      obs_dim: width of the flattened observation; pictures are not part of it.
      action_dim: width of an action.
      config: see `PPOConfig`.
      device: where the networks are: "cpu", "cuda", "auto", ...
      processes: those that learn together. Each collects its own rollouts; gradients are averaged at
        every step and running statistics put together after every rollout, so that all of them stay
        the same agent.

    Attributes:
      network: the `ActorCritic`.
      timesteps, updates: taken so far.
      contract: the environment that it last learned in; None where that does not say.
    """

    @converted
    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        config: PPOConfig | None = None,
        device: str = "cpu",
        processes: Processes | None = None,
    ) -> None:
        self.config = config = config or PPOConfig()
        self.processes = processes or Processes()
        self.obs_dim, self.action_dim = obs_dim, action_dim
        self.device = torch.device(resolve_device(device))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeding.derive_seed(config.seed, "ppo-weights"))
            self.network = _network(obs_dim, action_dim, config).to(self.device)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=config.lr, eps=1e-5, fused=self.device.type != "mps"
        )
        self.obs_moments = RunningMoments(obs_dim)
        self.return_moments = RunningMoments(1)
        self.noise = torch.Generator().manual_seed(
            seeding.derive_seed(config.seed, "ppo-noise", self.processes.rank)
        )
        self.lr = config.lr
        self.timesteps = 0
        self.updates = 0
        self.view = StateView(config.state_keys, config.relative_positions)
        self.contract: EnvContract | None = None
        self._rollout: RolloutState | None = None  # where the environments are, between updates
        self._resumed: dict[str, Any] | None = None  # where a loaded agent's were

    def train(
        self, env: Any, on_update: Callable[[dict[str, float]], Any] | None = None
    ) -> dict[str, list[float]]:
        """Learn until `total_timesteps` steps have been taken, counted over all calls.

        Args:
          env: a Gymnasium environment, or a vector environment of any autoreset mode.
          on_update: called after each update with its numbers; True ends the training.

        Returns:
          {"episode_reward", "episode_length"} of each finished episode, and of each update
          "policy_loss", "value_loss" and every other number that `on_update` sees.

        Raises:
          UserError: the observation has another width, or a loss is not finite.
        """
        config = self.config
        stepper = Stepper(env, self.view)
        buffer = RolloutBuffer(
            config.n_steps, self.obs_dim, self.action_dim, str(self.device), stepper.n
        )
        history: dict[str, list[float]] = {"episode_reward": [], "episode_length": []}
        self._begin(stepper)
        assert self._rollout is not None
        while self.timesteps < config.total_timesteps:
            start = time.perf_counter()
            buffer.reset()
            numbers, episodes = collect(self, self._rollout, buffer)
            taken = int(buffer.valid.sum()) * self.processes.size
            collected = time.perf_counter()
            numbers |= self._update(buffer)
            numbers["update_seconds"] = time.perf_counter() - collected
            self.timesteps += taken
            self.updates += 1
            numbers["timesteps"] = float(self.timesteps)
            numbers["steps_per_second"] = taken / (time.perf_counter() - start)
            for key, values in episodes.items():
                history[key] += values
            for key in numbers.keys() - episodes.keys():
                history.setdefault(key, []).append(numbers[key])
            if on_update is not None and on_update(numbers):
                break
        return history

    def predict(self, obs: Any, deterministic: bool = True) -> NDArray[np.float32]:
        """The action (action_dim,) for one observation, or (n, action_dim) for n of them; in [-1, 1]."""
        flat = self.view(obs)
        with torch.no_grad():
            rows = self.normalized(np.atleast_2d(flat), self.normalizer())
            actions = self.network.get_action(rows, deterministic, self.noise)[0]
        clipped: NDArray[np.float32] = actions.clamp(-1, 1).cpu().numpy()
        return clipped if flat.ndim > 1 else clipped[0]

    def policy(self) -> ModelPolicy:
        """The deterministic policy with its normalization: what a checkpoint holds and evaluation runs.

        It shares the weights with the agent.
        """
        actor = self.network.actor
        actor.registered = (  # type: ignore[assignment]
            "mlp",
            {
                "state_dim": self.obs_dim,
                "action_dim": self.action_dim,
                "hidden_dim": self.config.hidden_dim,
                "n_layers": self.config.n_layers,
            },
        )
        spec = self.view.spec or ObsSpec({"state": (self.obs_dim,)}, {"state": "float32"})
        return ModelPolicy(
            actor, spec, self.normalizer(), self.contract, self.config.relative_positions
        )

    def normalizer(self, seen: RunningMoments | None = None) -> Normalizer:
        """Of observations, by the running statistics, or by others."""
        moments = self.obs_moments if seen is None else seen
        if not self.config.normalize_obs:
            moments = RunningMoments(self.obs_dim)
        return Normalizer({"state": moments.statistics()})

    def normalized(self, obs: NDArray[np.float32], normalizer: Normalizer) -> torch.Tensor:
        """What the network sees of observations (n, obs_dim)."""
        rows = torch.from_numpy(np.ascontiguousarray(obs))
        return normalizer.normalize("state", rows).to(self.device)

    def _begin(self, stepper: Stepper) -> None:
        """New episodes in all rows, or those that a loaded agent was in the middle of."""
        stream = f"ppo-episodes-{self.processes.rank}"
        seed = seeding.derive_seed(self.config.seed, stream, self.updates)
        told = guarded("What the checkpoint says of the agent's episodes", _REMEDY)
        with nullcontext() if self._resumed is None else told:
            self._rollout = RolloutState.begin(stepper, seed, self._resumed)
        self._resumed = None
        if self._rollout.obs.shape[1] != self.obs_dim:
            raise UserError(
                f"The environment's observation has {self._rollout.obs.shape[1]} numbers, and the"
                f" agent was made for obs_dim={self.obs_dim}."
            )
        self.contract = getattr(stepper.env, "contract", None)

    def _update(self, buffer: RolloutBuffer) -> dict[str, float]:
        """`n_epochs` passes over the buffer; means of what was measured."""
        config = self.config
        names = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
        seen: list[torch.Tensor] = []
        for _ in range(config.n_epochs):
            first = len(seen)
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr
            for batch in buffer.get_batches(config.batch_size, self.noise):
                seen.append(self._step(*batch))
            if config.target_kl > 0 and self.updates >= config.critic_warmup:
                self._adapt_lr(float(torch.stack(seen[first:])[:, 3].mean()))
        means = torch.stack(seen).mean(0).tolist()
        numbers = dict(zip(names, means, strict=True))
        if not np.isfinite(numbers["policy_loss"] + numbers["value_loss"]):
            raise UserError(
                f"At update {self.updates + 1} the loss is not finite; lower lr, or look for extreme"
                " rewards or observations."
            )
        returns, values = buffer.returns[buffer.valid], buffer.values[buffer.valid]
        left = (returns - values).var() / returns.var().clamp(min=1e-12)
        numbers["explained_variance"] = 1 - left.item()
        numbers["lr"] = self.lr
        numbers["action_std"] = self.network.log_std.detach().exp().mean().item()
        return numbers

    def _adapt_lr(self, kl: float) -> None:
        kl = self.processes.mean(torch.tensor(kl, dtype=torch.float64)).item()
        if kl > 2 * self.config.target_kl:
            self.lr = max(self.lr / 1.5, MIN_LR)
        elif kl < self.config.target_kl / 2:
            self.lr = min(self.lr * 1.5, MAX_LR)

    def _step(
        self,
        obs: torch.Tensor,
        actions: torch.Tensor,
        old_log_prob: torch.Tensor,
        returns: torch.Tensor,
        advantages: torch.Tensor,
    ) -> torch.Tensor:
        """One optimizer step; (5,): the losses, entropy, KL and clip fraction of `_update`."""
        config = self.config
        log_prob, value, entropy = self.network.evaluate_actions(obs, actions)
        log_ratio = log_prob - old_log_prob
        ratio = log_ratio.exp()
        old_value = returns - advantages
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        low, high = 1 - config.clip_epsilon, 1 + config.clip_epsilon
        policy_loss = -torch.min(ratio * advantages, ratio.clamp(low, high) * advantages).mean()
        errors = (value - returns) ** 2
        if config.clip_value:
            near = old_value + (value - old_value).clamp(-config.clip_epsilon, config.clip_epsilon)
            errors = torch.max(errors, (near - returns) ** 2)
        value_loss, spread = errors.mean(), entropy.mean()
        loss = config.value_loss_coef * value_loss
        if self.updates >= config.critic_warmup:
            loss = loss + policy_loss - config.entropy_coef * spread
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._average_gradients()
        nn.utils.clip_grad_norm_(self.network.parameters(), config.max_grad_norm)
        self.optimizer.step()
        with torch.no_grad():
            # k3 of Schulman, "Approximating KL Divergence", 2020
            kl = (ratio - 1 - log_ratio).mean()
            clipped = ((ratio - 1).abs() > config.clip_epsilon).float().mean()
            return torch.stack((policy_loss, value_loss, spread, kl, clipped))

    def _average_gradients(self) -> None:
        """Replace gradients by their means over the processes, in one message."""
        if self.processes.size == 1:
            return
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        flat = self.processes.mean(torch.cat([g.flatten() for g in gradients]))
        parts = flat.split([g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def save(self, path: str | Path, **entries: Any) -> None:
        """Write all that is needed to act (`ModelPolicy.from_checkpoint`) and to go on learning.

        Between two updates of `train` the environments are part of it, where these can be saved
        (`TaskVectorEnv`): a run of one process that goes on from the file is then, on a CPU, the same as
        one that never stopped. Of several processes the main one writes, and the others begin new episodes.

        Args:
          path: of the file.
          **entries: further entries of the checkpoint, plain values; what else belongs to a run.
        """
        policy = self.policy()
        save_checkpoint(
            path,
            {
                **entries,
                "kind": "policy",
                "policy": policy.description(),
                "weights": dict(policy.state_dict()),
                "ppo": {
                    "obs_dim": self.obs_dim,
                    "action_dim": self.action_dim,
                    "config": asdict(self.config),
                    "network": dict(self.network.state_dict()),
                    "optimizer": self.optimizer.state_dict(),
                    "obs_moments": dict(self.obs_moments.state_dict()),
                    "return_moments": dict(self.return_moments.state_dict()),
                    "noise": self.noise.get_state(),
                    "lr": self.lr,
                    "timesteps": self.timesteps,
                    "updates": self.updates,
                    "rollout": None if self._rollout is None else self._rollout.saved(),
                },
            },
        )

    def load(self, path: str | Path) -> None:
        """Take over what `save` wrote, except the config; UserError if it is of another kind or shape."""
        saved, about = _parts(path)
        with guarded(f"The checkpoint {str(path)!r}", _REMEDY):
            self._load(saved, about, str(path))

    def _load(self, saved: dict[str, Any], about: dict[str, Any], source: str) -> None:
        spec = ObsSpec.from_saved(about)
        contract = about.get("contract")
        contract = None if contract is None else EnvContract.from_dict(contract)
        moments, steps = saved["optimizer"]["state"], (saved["timesteps"], saved["updates"])
        own = {
            "network": self.network,
            "obs_moments": self.obs_moments,
            "return_moments": self.return_moments,
        }
        for name, module in own.items():
            check_fit(module.state_dict(), saved[name], source)
        check_slots(moments, list(self.network.parameters()), source)
        lr = float(saved["lr"])
        if not 0 <= lr < np.inf or any(type(n) is not int or n < 0 for n in steps):
            raise UserError(
                f"The checkpoint {source!r} has a learning rate or counts that cannot be."
            )
        for name, module in own.items():
            module.load_state_dict(saved[name])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.view.show(spec)
        self.contract, self.lr = contract, lr
        self.timesteps, self.updates = steps
        if self.processes.main:
            self.noise.set_state(saved["noise"].clone())
            self._resumed = saved["rollout"]
        else:  # the file is the main process's; with its noise and episodes the others would repeat it
            stream = f"ppo-noise-{self.processes.rank}"
            self.noise.manual_seed(seeding.derive_seed(self.config.seed, stream, self.updates))

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, device: str = "cpu", processes: Processes | None = None
    ) -> PPOAgent:
        """The agent that `save` wrote, built from the file alone."""
        saved = _parts(path)[0]
        with guarded(f"The checkpoint {str(path)!r}", _REMEDY):
            config = load_config(PPOConfig, **saved["config"])
            sizes = saved["obs_dim"], saved["action_dim"]
            require_fit(saved["network"], lambda: _network(*sizes, config), str(path))
            agent = cls(*sizes, config, device, processes)
        agent.load(path)
        return agent


def _network(obs_dim: int, action_dim: int, config: PPOConfig) -> ActorCritic:
    return ActorCritic(
        obs_dim,
        action_dim,
        config.hidden_dim,
        config.n_layers,
        log_std_init=config.log_std_init,
        separate_critic=config.separate_critic,
        orthogonal_init=config.orthogonal_init,
    )


def _parts(path: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a checkpoint says of its agent, and of the policy that the agent is."""
    payload = load_checkpoint(path)
    if not isinstance(payload.get("ppo"), dict) or not isinstance(payload.get("policy"), dict):
        raise UserError(f"The checkpoint {str(path)!r} holds no PPO agent.")
    return payload["ppo"], payload["policy"]
