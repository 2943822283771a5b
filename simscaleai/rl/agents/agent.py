"""The interface of a learning algorithm, and a registry of algorithms by name.

    @register_agent("mine")
    class MyAgent: ...                    # implements `Agent`; `MLPAgent` has most of it

    simscale rl --env-name reach agent.name=mine agent.n_steps=50

An agent acts and learns; it steps no environment and writes no file. `learn` (collector.py) calls it:

    agent.begin(num_envs, resumed=False)
    repeat:
        n_steps times:  action = agent.act(obs);  agent.record(transition of that action)
        metrics = agent.update()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from simscaleai.actions import ActionRange
from simscaleai.config import load_config
from simscaleai.contract import EnvContract
from simscaleai.distributed import Processes
from simscaleai.errors import unknown_name
from simscaleai.models.policy import ModelPolicy
from simscaleai.registry import Registry
from simscaleai.rl.agents.agent_config import AgentConfig
from simscaleai.rl.agents.metric_group import MetricGroup
from simscaleai.rl.agents.state_extractor import StateExtractor
from simscaleai.rl.agents.vec_env_adapter import Transition

State = dict[
    str, Any
]  # nested dicts of plain values and tensors, as `load_checkpoint` returns them
Metrics = dict[str, float]


class Agent(Protocol):
    """A learning algorithm.

    Attributes:
      name: name in the registry.
      config_class: dataclass of its settings.
      run_defaults: settings of a run that differ from those of `config_class`; {} for none.
      metric_groups: panels that show the metrics of `update`.
      config: its settings.
      obs_dim, action_dim: widths of the extracted state and of an action.
      device: device of its networks.
      processes: the processes that train it together.
      extractor: extracts the state from an observation.
      actions: action range of its environment.
      contract: contract of the environment of the last training; None if it has none.
      timesteps, updates: numbers of steps and updates so far; counted by `learn`.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[AgentConfig]]
    run_defaults: ClassVar[State]
    metric_groups: ClassVar[tuple[MetricGroup, ...]]
    config: AgentConfig
    obs_dim: int
    action_dim: int
    device: torch.device
    processes: Processes
    extractor: StateExtractor
    actions: ActionRange
    contract: EnvContract | None
    timesteps: int
    updates: int

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        config: AgentConfig,
        device: str,
        processes: Processes | None,
    ) -> None: ...

    def begin(self, num_envs: int, resumed: bool) -> None:
        """Prepare for rollouts of `num_envs` environments.

        Args:
          num_envs: number of environments.
          resumed: True if they continue the episodes of the saved state; False if all begin new episodes.
        """

    def act(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return actions (n, action_dim) in [-1, 1], the environment's range, for states (n, obs_dim)."""

    def record(self, transition: Transition) -> None:
        """Store the transitions that followed the newest actions."""

    def update(self) -> Metrics:
        """Learn from the transitions since the last update, and discard them.

        Returns:
          Metrics of the update; {} if no recorded step was valid, so that nothing could be learned.

        Raises:
          UserError: a loss is not finite.
        """

    def policy(self) -> ModelPolicy:
        """Return the current deterministic policy with its normalization."""

    def state_dict(self) -> State:
        """Return everything that `load_state_dict` needs for an exact resume, without the environments."""

    def load_state_dict(self, state: State, source: str) -> None:
        """Load a saved state; UserError naming `source` if it belongs to another agent."""

    @classmethod
    def check_compatible(
        cls, obs_dim: int, action_dim: int, config: AgentConfig, state: State, source: str
    ) -> None:
        """Raise UserError if a state belongs to another agent, before memory for the agent is allocated."""


# Strings, so that an algorithm is imported when it is first used.
_agents: Registry[type[Agent]] = Registry(
    "agent",
    {
        "cem": "simscaleai.rl.agents.cem:CEMAgent",
        "pixel_ppo": "simscaleai.rl.agents.pixel_ppo:PixelPPOAgent",
        "ppo": "simscaleai.rl.agents.ppo:PPOAgent",
    },
)
_Target = TypeVar("_Target", bound="type | str")


def register_agent(name: str) -> Callable[[_Target], _Target]:
    """Return a decorator that gives an agent class a name; UserError if another class has it.

    Called with `"module:Class"` instead of a class, it imports the module when the agent is first used.
    """

    def register(target: _Target) -> _Target:
        _agents.register(name, target)
        if isinstance(target, type):
            target.name = name  # type: ignore[attr-defined]
        return target

    return register


def agent_class(name: str) -> type[Agent]:
    """Return the class behind a name; UserError lists the known names."""
    cls = _agents.get(name)
    # a class that was registered by a string may come without the decorator
    if "name" not in vars(cls):
        cls.name = name
    return cls


def list_agents() -> list[str]:
    """Return all names, sorted; built-in agents are not imported for it."""
    return _agents.names()


def resolve_agent(settings: State, seed: int | None = None) -> tuple[type[Agent], AgentConfig]:
    """Return class and complete settings of an agent from `{"name": ..., setting: value}`.

    Args:
      settings: the group `agent` of a YAML file; the name is "ppo" by default.
      seed: overrides the seed in `settings`.

    Raises:
      UserError: the name or a setting is unknown, or a value has the wrong type.
    """
    values = dict(settings)  # the caller's mapping keeps its name
    cls = agent_class(values.pop("name", "ppo"))
    known = sorted(f.name for f in fields(cls.config_class))
    for key in values:
        if key not in known:
            raise unknown_name(f"setting of agent {cls.name!r}:", str(key), known)
    if seed is not None:
        values["seed"] = seed
    config = load_config(cls.config_class, **{**cls.run_defaults, **values})
    return cls, config


def agent_settings(cls: type[Agent], config: AgentConfig) -> State:
    """Return the inverse of `resolve_agent`: every setting, with the agent's name first."""
    return {"name": cls.name, **asdict(config)}
