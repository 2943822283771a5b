"""Checkpoints of agents: a policy for every other command, and the state from which training resumes.

    save_agent("last.pt", agent, collector.state_dict())
    agent, envs = load_agent("last.pt")
    learn(agent, Collector(agent, env, envs))

The entry "agent" is the agent's name. The entry of that name contains its sizes, its settings, its
`state_dict` and the state of its environments; "policy" and "weights" are those of `ModelPolicy`.
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
      path: path of the file.
      agent: agent of any kind.
      envs: `Collector.state_dict()`; None to leave the environments out.
      **entries: further entries of the checkpoint, plain values.
    """
    policy = agent.policy()
    # Everything else in the file is what `ModelPolicy` saves: `simscale eval` knows no agents.
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
    """Return the agent of a checkpoint, built from the file alone, and the state of its environments.

    Args:
      path: path of the file.
      device: device of the networks.
      processes: the processes that train it together. Only the main one gets the state of the environments;
        the others would repeat its episodes, so they begin new ones.

    Raises:
      UserError: the file contains no agent, or one with impossible values.
    """
    saved, _ = _read(path)
    with guarded(f"The checkpoint {str(path)!r}", REMEDY):
        cls = agent_class(saved["name"])
        config = load_config(cls.config_class, **saved["config"])
        sizes = saved["obs_dim"], saved["action_dim"]
        # A file may describe a network that fills the memory: compare with its tensors before building it.
        cls.check_compatible(*sizes, config, saved["state"], str(path))
        agent = cls(*sizes, config, device, processes)
    return agent, restore_agent(agent, path)


def restore_agent(agent: Agent, path: str | Path) -> State | None:
    """Load everything but the settings into `agent`; see `load_agent` for the value and the errors."""
    saved, about = _read(path)
    with guarded(f"The checkpoint {str(path)!r}", REMEDY):
        spec, actions, contract = (
            ObsSpec.from_saved(about),
            action_range_of(about),
            about.get("contract"),
        )
        contract = None if contract is None else EnvContract.from_dict(contract)
        counts = saved["timesteps"], saved["updates"]
        if any(type(n) is not int or n < 0 for n in counts):  # bools are ints too
            raise UserError(
                f"The checkpoint {str(path)!r} has counts of steps that are impossible."
            )
        agent.timesteps, agent.updates = counts
        agent.load_state_dict(saved["state"], str(path))
        agent.extractor.extract(spec)  # the same entries in the same order as in training
        agent.actions = actions or ActionRange.unit(agent.action_dim)
        agent.contract = contract
        envs: State | None = saved["envs"] if agent.processes.is_main else None
        return envs


def agent_entries(payload: Mapping[str, object]) -> tuple[State, State]:
    """Return the entries of the agent and of its policy; UserError if the checkpoint has no agent."""
    name, policy = payload.get("agent"), payload.get("policy")
    saved = payload.get(name) if isinstance(name, str) else None
    if not isinstance(saved, dict) or not isinstance(policy, dict):
        raise UserError("The checkpoint holds no agent of reinforcement learning.")
    return {"name": name, **saved}, policy


def timesteps_of(payload: Mapping[str, object]) -> int:
    """Return the number of steps that a checkpoint's agent has learned from; UserError without an agent."""
    steps = agent_entries(payload)[0].get("timesteps")
    if type(steps) is not int:
        raise UserError("The checkpoint holds no agent of reinforcement learning.")
    return steps


def _read(path: str | Path) -> tuple[State, State]:
    payload = load_checkpoint(path)
    try:  # the error gets the path
        return agent_entries(payload)
    except UserError:
        raise UserError(
            f"The checkpoint {str(path)!r} holds no agent of reinforcement learning."
        ) from None
