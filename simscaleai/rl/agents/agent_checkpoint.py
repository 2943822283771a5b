"""Checkpoints of agents: a policy that every other command runs, and the state that learning resumes from.

    save_agent("last.pt", agent, collector.state_dict())
    agent, envs = load_agent("last.pt")
    learn(agent, Collector(agent, env, envs))

The entry "agent" is the agent's name. The entry of that name has its sizes, settings and `state_dict`, and
where its environments were; "policy" and "weights" are those of `ModelPolicy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from simscaleai.actions import ActionRange
from simscaleai.config import load_config
from simscaleai.contract import EnvContract
from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.guards import guarded
from simscaleai.models.policy import action_range_of
from simscaleai.observations import ObsSpec
from simscaleai.rl.agents.agent import Agent, State, agent_class
from simscaleai.storage.checkpoint import load_checkpoint, save_checkpoint

REMEDY = "use another checkpoint of the run"


def save_agent(
    path: str | Path, agent: Agent, envs: State | None = None, **entries: object
) -> None:
    """Write an agent.

    Args:
      path: of the file.
      agent: of any kind.
      envs: `Collector.state_dict()`; None leaves out where the environments are.
      **entries: further entries of the checkpoint, plain values.
    """
    policy = agent.policy()
    saved = {
        "obs_dim": agent.obs_dim,
        "action_dim": agent.action_dim,
        "config": asdict(agent.config),
        "timesteps": agent.timesteps,
        "updates": agent.updates,
        "state": agent.state_dict(),
        "envs": envs,
    }
    save_checkpoint(
        path,
        {
            **entries,
            "kind": "policy",
            "policy": policy.description(),
            "weights": dict(policy.state_dict()),
            "agent": agent.name,
            agent.name: saved,
        },
    )


def load_agent(
    path: str | Path,
    device: str = "cpu",
    processes: Processes | None = None,
) -> tuple[Agent, State | None]:
    """Return the agent of a checkpoint, built from the file alone, and where its environments were.

    Args:
      path: of the file.
      device: of the networks.
      processes: those that learn together. Only the main one gets the environments: the others begin new
        episodes, or they would repeat those of the main one.

    Raises:
      UserError: the file holds no agent, or one with impossible values.
    """
    saved, _ = _read(path)
    with guarded(f"The checkpoint {str(path)!r}", REMEDY):
        cls = agent_class(saved["name"])
        config = load_config(cls.config_class, **saved["config"])
        sizes = saved["obs_dim"], saved["action_dim"]
        # a file may describe a network that fills the memory: compare with its tensors before building
        cls.check_compatible(*sizes, config, saved["state"], str(path))
        agent = cls(*sizes, config, device, processes)
    return agent, restore_agent(agent, path)


def restore_agent(agent: Agent, path: str | Path) -> State | None:
    """Take over everything but the settings; return where the environments were; errors of `load_agent`."""
    saved, about = _read(path)
    with guarded(f"The checkpoint {str(path)!r}", REMEDY):
        spec, actions, contract = (
            ObsSpec.from_saved(about),
            action_range_of(about),
            about.get("contract"),
        )
        contract = None if contract is None else EnvContract.from_dict(contract)
        counts = saved["timesteps"], saved["updates"]
        if any(type(n) is not int or n < 0 for n in counts):
            raise UserError(
                f"The checkpoint {str(path)!r} has counts of steps that are impossible."
            )
        agent.timesteps, agent.updates = counts
        agent.load_state_dict(saved["state"], str(path))
        agent.extractor.extract(spec)  # the same entries of an observation in the same order
        agent.actions = actions or ActionRange.unit(agent.action_dim)
        agent.contract = contract
        envs: State | None = saved["envs"] if agent.processes.is_main else None
        return envs


def agent_entries(payload: Mapping[str, object]) -> tuple[State, State]:
    """Return what a checkpoint says of its agent, and of the agent's policy; UserError if it has none."""
    name, policy = payload.get("agent"), payload.get("policy")
    saved = payload.get(name) if isinstance(name, str) else None
    if not isinstance(saved, dict) or not isinstance(policy, dict):
        raise UserError("The checkpoint holds no agent of reinforcement learning.")
    return {"name": name, **saved}, policy


def timesteps_of(payload: Mapping[str, object]) -> int:
    """Return the steps that the agent of a checkpoint has learned from; UserError if there is none."""
    steps = agent_entries(payload)[0].get("timesteps")
    if type(steps) is not int:
        raise UserError("The checkpoint holds no agent of reinforcement learning.")
    return steps


def _read(path: str | Path) -> tuple[State, State]:
    payload = load_checkpoint(path)
    try:
        return agent_entries(payload)
    except UserError:
        raise UserError(
            f"The checkpoint {str(path)!r} holds no agent of reinforcement learning."
        ) from None
