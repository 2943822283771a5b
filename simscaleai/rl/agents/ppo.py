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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simscaleai import seeding
from simscaleai.actions import ActionRange
from simscaleai.config import load_config
from simscaleai.contract import EnvContract
from simscaleai.convert import converted
from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.guards import guarded
from simscaleai.models.fitting import check_fit, check_slots, require_fit
from simscaleai.models.inference import resolve_device
from simscaleai.models.normalization import Normalizer, Statistics
from simscaleai.models.policy import ModelPolicy, action_range_of
from simscaleai.models.sizes import within_memory
from simscaleai.observations import ObsSpec
from simscaleai.rl.agents.buffer import RolloutBuffer
from simscaleai.rl.agents.moments import RunningMoments
from simscaleai.rl.agents.networks import ActorCritic
from simscaleai.rl.agents.ppo_config import PPOConfig
from simscaleai.rl.agents.ppo_update import update
from simscaleai.rl.agents.rollout import RolloutState, collect
from simscaleai.rl.agents.stepping import Stepper
from simscaleai.rl.agents.view import StateView
from simscaleai.storage.checkpoint import load_checkpoint, save_checkpoint

__all__ = ["ActorCritic", "PPOAgent", "PPOConfig", "RolloutBuffer"]

_REMEDY = "use another checkpoint of the run"


class PPOAgent:
    """A policy that learns from reward.

    Args:
      obs_dim: width of the flattened observation; pictures are not part of it.
      action_dim: entries of an action.
      config: see `PPOConfig`.
      device: where the networks are: "cpu", "cuda", "auto", ...
      processes: those that learn together. Each collects its own rollouts; gradients are averaged at
        every step and running statistics put together after every rollout, so that all of them stay
        the same agent.

    Attributes:
      network: the `ActorCritic`.
      timesteps, updates: taken so far.
      contract: the environment that it last learned in; None where that does not say.
      actions: the range of actions there; [-1, 1] for an agent that was in none.
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
            with within_memory(f"A network of hidden_dim={config.hidden_dim}"):
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
        self.actions = ActionRange.unit(action_dim)
        self._rollout: RolloutState | None = None  # where the environments are, between updates
        self._resumed: dict[str, Any] | None = None  # where a loaded agent's were

    def train(
        self, env: Any, on_update: Callable[[dict[str, float]], Any] | None = None
    ) -> dict[str, list[float]]:
        """Learn until `total_timesteps` steps have been taken, counted over all calls.

        Args:
          env: a Gymnasium environment, or a vector environment of any autoreset mode. It acts in a Box with
            finite bounds: what the network draws is clipped to [-1, 1], and that is scaled to the bounds.
          on_update: called after each update with its numbers; True ends the training.

        Returns:
          {"episode_reward", "episode_length"} of each finished episode, and of each update
          "policy_loss", "value_loss" and every other number that `on_update` sees.

        Raises:
          UserError: actions or observations are of a kind or width that the agent was not made for, before
            the first step; a reward, an observation or a loss is not finite.
        """
        config = self.config
        stepper = Stepper(env, self.view)
        self.take_actions(stepper.actions)
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
            if self.processes.size == 1 and not buffer.valid.any():
                continue  # all that happened were beginnings of episodes
            taken = int(buffer.valid.sum()) * self.processes.size
            collected = time.perf_counter()
            numbers |= update(self, buffer)
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

    def predict(self, obs: Any, deterministic: bool = True) -> NDArray[np.floating]:
        """Return the action (action_dim,) for one observation, or (n, action_dim) for n of them.

        Actions lie in the range and have the shape of those that were trained, see `actions`. An observation
        is as the environment gives it, or a state (obs_dim,) or (n, obs_dim) made of it.

        Raises:
          UserError: the observation is not of the width that the agent was made for.
        """
        flat = self.view(obs)
        if flat.ndim not in (1, 2) or flat.shape[-1] != self.obs_dim:
            raise UserError(
                f"The observation has the shape {flat.shape}, and the agent was made for"
                f" obs_dim={self.obs_dim}: ({self.obs_dim},), or (n, {self.obs_dim}) for n of them."
            )
        with torch.no_grad():
            rows = self.normalized(np.atleast_2d(flat), self.normalizer())
            units = self.network.get_action(rows, deterministic, self.noise)[0]
        actions = self.actions.executed(units.cpu().numpy())
        return actions if flat.ndim > 1 else np.asarray(actions[0])

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
        low, high = (torch.from_numpy(b).float() for b in (self.actions.low, self.actions.high))
        normalizer = Normalizer(
            {"state": self._statistics(), "actions": Statistics(low, high, low, high)},
            {"actions": "min_max"},
        )
        scale: Any = normalizer.actions_std
        scale.copy_((high - low) / 2)  # exactly, however narrow the box is
        return ModelPolicy(
            actor, spec, normalizer, self.contract, self.config.relative_positions, self.actions
        )

    def normalizer(self, seen: RunningMoments | None = None) -> Normalizer:
        """Of observations, by the running statistics, or by others."""
        return Normalizer({"state": self._statistics(seen)})

    def _statistics(self, seen: RunningMoments | None = None) -> Statistics:
        moments = self.obs_moments if seen is None else seen
        if not self.config.normalize_obs:
            moments = RunningMoments(self.obs_dim)
        return moments.statistics()

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
        self.contract = EnvContract.of(stepper.env)

    def take_actions(self, actions: ActionRange) -> None:
        """Take over the range of an environment's actions; UserError if it is not the agent's."""
        if actions.width != self.action_dim:
            raise UserError(
                f"The environment's actions have {actions.width} entries, and the agent was made for"
                f" action_dim={self.action_dim}."
            )
        if self.updates and not actions.same_as(self.actions):
            raise UserError(
                f"The environment's actions are {actions}, and the agent has learned with"
                f" {self.actions}; train it where it has learned, or a new agent here."
            )
        self.actions = actions

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
        spec, actions = ObsSpec.from_saved(about), action_range_of(about)
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
        self.actions = actions or ActionRange.unit(self.action_dim)
        self.contract, self.lr = contract, lr
        self.timesteps, self.updates = steps
        if self.processes.is_main:
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
