"""Base class of agents whose policy is an MLP on a normalized state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Self

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from simscaleai import seeding
from simscaleai.actions import ActionRange
from simscaleai.contract import EnvContract
from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.models.inference import resolve_device
from simscaleai.models.mlp import MLPPolicy
from simscaleai.models.normalization import Normalizer, Statistics
from simscaleai.models.policy import ModelPolicy
from simscaleai.observations import ObsSpec
from simscaleai.rl.agents.agent import Metrics, State
from simscaleai.rl.agents.agent_checkpoint import load_agent, restore_agent, save_agent
from simscaleai.rl.agents.agent_config import AgentConfig
from simscaleai.rl.agents.metric_group import MetricGroup
from simscaleai.rl.agents.running_mean_std import RunningMeanStd
from simscaleai.rl.agents.state_extractor import Observation, StateExtractor
from simscaleai.rl.agents.vec_env_adapter import Transition
from simscaleai.rl.collector import Collector, learn
from simscaleai.rollout.gym_types import GymEnv


class MLPAgent(ABC):
    """Base of agents with an `MLPPolicy`; see `agent.Agent` for attributes that are not listed here.

    Attributes:
      obs_rms: running statistics of observations; with `normalize_obs` the policy reads
        (obs - mean) / std.
      generator: source of all random numbers of training; on the CPU, with a different seed in each process.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[AgentConfig]]
    run_defaults: ClassVar[State] = {}
    metric_groups: ClassVar[tuple[MetricGroup, ...]] = ()

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        config: AgentConfig,
        device: str,
        processes: Processes | None,
    ) -> None:
        self.config = config
        self.obs_dim, self.action_dim = obs_dim, action_dim
        self.device = torch.device(resolve_device(device))
        self.processes = processes or Processes()
        self.obs_rms = RunningMeanStd(self.state_dim)
        self.generator = torch.Generator()
        self.reseed(0)
        self.extractor = self.make_extractor(config)
        self.actions = ActionRange.unit(action_dim)
        self.contract: EnvContract | None = None
        self.timesteps = self.updates = 0
        self._collector: Collector | None = None  # of the current or last training
        self._resumed: State | None = None  # state of the environments in a loaded checkpoint

    @classmethod
    def for_space(
        cls,
        space: gymnasium.spaces.Dict,
        action_dim: int,
        config: AgentConfig,
        device: str = "cpu",
        processes: Processes | None = None,
    ) -> Self:
        """Return a new agent for observations of `space`."""
        # the width of a state depends on `state_keys`: extract one
        example = {key: part.sample() for key, part in space.items()}
        width = cls.make_extractor(config)(example).shape[-1]
        return cls(width, action_dim, config, device, processes)

    @classmethod
    def make_extractor(cls, config: AgentConfig) -> StateExtractor:
        """Return what extracts the array (n, obs_dim) that the agent reads from observations."""
        return StateExtractor(config.state_keys, config.relative_positions)

    @property
    def state_dim(self) -> int:
        """Number of leading entries of `obs_dim` that are normalized by running statistics."""
        return self.obs_dim

    @property
    @abstractmethod
    def actor(self) -> MLPPolicy:
        """Network that computes the mean action."""

    @property
    @abstractmethod
    def exploration_std(self) -> torch.Tensor:
        """Standard deviation (action_dim,) of the noise that is added to mean actions while learning."""

    @abstractmethod
    def begin(self, num_envs: int, resumed: bool) -> None: ...

    @abstractmethod
    def act(self, obs: NDArray[np.float32]) -> NDArray[np.float32]: ...

    @abstractmethod
    def record(self, transition: Transition) -> None: ...

    @abstractmethod
    def update(self) -> Metrics: ...

    @abstractmethod
    def state_dict(self) -> State: ...

    @abstractmethod
    def load_state_dict(self, state: State, source: str) -> None: ...

    @classmethod
    @abstractmethod
    def check_compatible(
        cls, obs_dim: int, action_dim: int, config: AgentConfig, state: State, source: str
    ) -> None: ...

    def train(
        self, env: GymEnv, on_update: Callable[[Metrics], object] | None = None
    ) -> dict[str, list[float]]:
        """Learn until the agent has taken `total_timesteps` steps, counted over all calls.

        Args:
          env: a Gymnasium environment, or a vector environment of any autoreset mode, whose action space is
            a Box with finite bounds. Sampled actions are clipped to [-1, 1] and scaled to the bounds.
          on_update: called after each update with its metrics; True ends the training.

        Returns:
          {"episode_reward", "episode_length"} of each finished episode, and every other metric that
          `on_update` gets, of each update; for PPO "policy_loss", "value_loss", ...

        Raises:
          UserError: the agent was made for another kind or width of actions or observations (raised before
            the first step); or a reward, an observation or a loss is not finite.
        """
        self._collector = Collector(self, env, self._resumed)
        self._resumed = None
        return learn(self, self._collector, on_update)

    def predict(self, obs: Observation, deterministic: bool = True) -> NDArray[np.floating]:
        """Return the action (action_dim,) for one observation, or (n, action_dim) for n of them.

        Actions have the range and shape of the environment of training, see `actions`. An observation is what
        that environment returns, or the state (obs_dim,) or (n, obs_dim) extracted from it.

        Raises:
          UserError: the width of the observation is not the agent's `obs_dim`.
        """
        state = self.extractor(obs)
        if state.ndim not in (1, 2) or state.shape[-1] != self.obs_dim:
            raise UserError(
                f"The observation has the shape {state.shape}, and the agent was made for"
                f" obs_dim={self.obs_dim}: ({self.obs_dim},), or (n, {self.obs_dim}) for n of them."
            )
        with torch.no_grad():
            mean = self.mean_actions(np.atleast_2d(state)).cpu()  # (n, action_dim)
            if not deterministic:
                noise = torch.randn(mean.shape, generator=self.generator)
                mean = mean + noise * self.exploration_std.cpu()
        # clipped to [-1, 1] and scaled to the environment's range
        actions = self.actions.executed(mean.numpy())
        return actions if state.ndim > 1 else np.asarray(actions[0])

    def mean_actions(self, obs: NDArray[np.float32]) -> torch.Tensor:
        """Return actions (n, action_dim) without noise, not clipped to [-1, 1], for states (n, obs_dim)."""
        actor = self.actor
        actions: torch.Tensor = actor.output(actor.features(self.normalized(obs)))
        return actions

    def policy(self) -> ModelPolicy:
        """Return the deterministic policy with its normalization, as checkpoints contain it.

        It shares its tensors with the agent.
        """
        spec = self.extractor.spec or ObsSpec({"state": (self.obs_dim,)}, {"state": "float32"})
        observed = {"state": self._obs_statistics()}
        return self._policy_of(spec, observed, self.config.relative_positions)

    def _policy_of(
        self, spec: ObsSpec, observed: Mapping[str, Statistics], relative_positions: bool
    ) -> ModelPolicy:
        """Return the actor as a policy, with statistics of what it observes."""
        # actions (B, action_dim) of the network are in [-1, 1], those of the policy in [low, high]
        low, high = (torch.from_numpy(b).float() for b in (self.actions.low, self.actions.high))
        normalizer = Normalizer(
            {**observed, "actions": Statistics(low, high, low, high)}, {"actions": "min_max"}
        )
        scale: torch.Tensor = normalizer.actions_std  # type: ignore[assignment]
        # `Normalizer` bounds a scale from below; the range of actions is exact, however narrow it is
        scale.copy_((high - low) / 2)
        policy = ModelPolicy(
            self.actor, spec, normalizer, self.contract, relative_positions, self.actions
        )
        return policy.to(self.device)

    def normalizer(self, obs_rms: RunningMeanStd | None = None) -> Normalizer:
        """Return the normalization by the running statistics, or by others."""
        return Normalizer({"state": self._obs_statistics(obs_rms)})

    def _obs_statistics(self, obs_rms: RunningMeanStd | None = None) -> Statistics:
        rms = self.obs_rms if obs_rms is None else obs_rms
        if not self.config.normalize_obs:
            rms = RunningMeanStd(self.state_dim)  # mean 0 and standard deviation 1: the identity
        return rms.statistics()

    def normalized(
        self, obs: NDArray[np.float32], normalizer: Normalizer | None = None
    ) -> torch.Tensor:
        """Return states (n, obs_dim) normalized, on the device of the network."""
        states = torch.from_numpy(np.ascontiguousarray(obs))
        return (normalizer or self.normalizer()).normalize("state", states).to(self.device)

    def reseed(self, updates: int) -> None:
        """Seed the generator of this process for training that starts after `updates` updates."""
        streams = (f"{self.name}-noise", self.processes.rank)
        if updates:  # a resumed process must not repeat the noise of its first start
            streams = (f"{self.name}-noise-{self.processes.rank}", updates)
        self.generator.manual_seed(seeding.derive_seed(self.config.seed, *streams))

    def save(self, path: str | Path, **entries: object) -> None:
        """Write everything needed to act (`ModelPolicy.from_checkpoint`) and to resume training.

        Called between two updates of `train`, it includes the state of environments that can be saved
        (`TaskVectorEnv`). A run of one process that resumes from the file then equals, on a CPU, one that
        never stopped. With several processes, the main one writes, and the others resume with new episodes.

        Args:
          path: path of the file.
          **entries: further entries of the checkpoint, plain values.
        """
        envs = None if self._collector is None else self._collector.state_dict()
        save_agent(path, self, envs, **entries)

    def load(self, path: str | Path) -> None:
        """Load a file of `save`, except its config; UserError if its agent has another kind or shape."""
        self._resumed = restore_agent(self, path)

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, device: str = "cpu", processes: Processes | None = None
    ) -> Self:
        """Return the agent in a file of `save`, built from the file alone."""
        agent, resumed = load_agent(path, device, processes)
        if not isinstance(agent, cls):
            raise UserError(
                f"The checkpoint {str(path)!r} holds an agent of the kind {agent.name!r}, not {cls.name!r}."
            )
        agent._resumed = resumed
        return agent
