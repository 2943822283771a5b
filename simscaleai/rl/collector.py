"""Rollouts of any agent: it acts in n environments, records the transitions and learns.

    collector = Collector(agent, make_vec_env("reach", 256, autoreset_mode="same_step"))
    history = learn(agent, collector)

Between two rollouts, `collector.state_dict()` is the state of the environments; a collector constructed
with it continues their episodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from simscaleai import seeding
from simscaleai.actions import ActionRange
from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.guards import guarded
from simscaleai.rl.agents.agent import Agent, Metrics, State
from simscaleai.rl.agents.agent_checkpoint import REMEDY
from simscaleai.rl.agents.vec_env_adapter import Transition, VecEnvAdapter
from simscaleai.rollout.gym_types import GymEnv

T = TypeVar("T")


@dataclass
class Rollout:
    """Statistics of the environments during a rollout.

    Attributes:
      rewards, lengths: of the episodes that ended.
      successes: of the episodes that ended, if the environment reports success.
      terms: {name: sum over valid steps} of the terms of the reward.
      valid_steps: number of steps in which the agent acted and the physics was stable.
      diverged: number of episodes that ended with unstable physics.
      env_seconds: time spent in the environments.
    """

    rewards: list[float] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    successes: list[float] = field(default_factory=list)
    terms: dict[str, float] = field(default_factory=dict)
    valid_steps: int = 0
    diverged: int = 0
    env_seconds: float = 0.0

    def metrics(self) -> Metrics:
        """Return means per step of the reward terms, and means per episode of return, length and success."""
        metrics = {
            f"reward/{name}": total / max(self.valid_steps, 1) for name, total in self.terms.items()
        }
        # no entry instead of NaN if no episode ended
        episodes = {
            "episode_reward": self.rewards,
            "episode_length": self.lengths,
            "success_rate": self.successes,
        }
        metrics |= {name: float(np.mean(values)) for name, values in episodes.items() if values}
        return metrics | {"env_seconds": self.env_seconds, "diverged": float(self.diverged)}


class Collector:
    """The environments of an agent, between and during rollouts.

    Args:
      agent: the agent; it gets the environment's action range and contract.
      env: an environment for `VecEnvAdapter`.
      saved: `state_dict()` of a collector with the same environment; None to begin new episodes.

    Attributes:
      adapter: the environments.
      obs: (n, obs_dim), observations for the next actions.
      episode_reward, episode_length: (n,), of the current episodes.

    Raises:
      UserError: the agent was made for other actions or observations, or the environment cannot continue
        from the saved state.
    """

    def __init__(self, agent: Agent, env: GymEnv, saved: State | None = None) -> None:
        self.adapter = VecEnvAdapter(env, agent.extractor)
        take_action_range(agent, self.adapter.actions)
        what = "What the checkpoint says of the agent's episodes"
        with nullcontext() if saved is None else guarded(what, REMEDY):
            resumed = self._begin(agent, saved)
            width = self.obs.shape[1]
            if width != agent.obs_dim:
                raise UserError(
                    f"The environment's observation has {width} numbers, and the agent was made for"
                    f" obs_dim={agent.obs_dim}."
                )
            agent.contract = EnvContract.of(env)
            agent.begin(self.adapter.num_envs, resumed)

    def _begin(self, agent: Agent, saved: State | None) -> bool:
        """Restore the saved episodes and return True, or begin new ones and return False."""
        # The number of updates is in the seed: a resumed run does not repeat its first episodes.
        if saved is None or not hasattr(self.adapter.env, "set_state"):
            stream = f"{agent.name}-episodes-{agent.processes.rank}"
            self.obs = self.adapter.reset(
                seeding.derive_seed(agent.config.seed, stream, agent.updates)
            )
            self.episode_reward = np.zeros(self.adapter.num_envs)
            self.episode_length = np.zeros(self.adapter.num_envs)
            return False
        # copies: the tensors are memory-mapped from the checkpoint
        state = _map_leaves(saved, torch.Tensor, lambda x: x.numpy().copy())
        self.obs = self.adapter.restore(state["env"], state["begins"])
        self.episode_reward, self.episode_length = state["reward"], state["length"]
        return True

    def state_dict(self) -> State | None:
        """Return plain values and tensors; None for environments that cannot be saved."""
        if not hasattr(self.adapter.env, "get_state"):
            return None
        state = {
            "env": self.adapter.env.get_state(),
            "begins": self.adapter.begins,
            "reward": self.episode_reward,
            "length": self.episode_length,
        }
        return _map_leaves(state, np.ndarray, lambda x: torch.from_numpy(x.copy()))

    def collect(self, agent: Agent) -> Rollout:
        """Let the agent act and record for `n_steps` steps of each environment.

        Raises:
          UserError: the physics was unstable in every step, which leaves nothing to learn from.
        """
        rollout = Rollout()
        for _ in range(agent.config.n_steps):
            actions = agent.act(self.obs)  # (n, action_dim)
            before = time.perf_counter()  # tells whether physics or networks limit the speed
            transition = self.adapter.step(actions)
            rollout.env_seconds += time.perf_counter() - before
            agent.record(transition)
            self._count(transition, rollout)
            self.obs = transition.obs
        # In a short rollout, one divergence per env may end an episode that was stable before.
        if not rollout.valid_steps and rollout.diverged > self.adapter.num_envs:
            raise UserError(
                "The physics became unstable in every step of a rollout; use a smaller dt, or stiffnesses,"
                " dampings and masses in the scene that fit it."
            )
        return rollout

    def _count(self, transition: Transition, rollout: Rollout) -> None:
        valid: NDArray[np.bool_] = transition.learnable
        done = transition.done
        self.episode_reward += transition.reward
        self.episode_length += valid  # control steps, without those of unstable physics
        rollout.valid_steps += int(valid.sum())
        rollout.diverged += int(transition.diverged.sum())
        for name, values in transition.terms.items():
            rollout.terms[name] = rollout.terms.get(name, 0.0) + float(values[valid].sum())
        if done.any():
            rollout.rewards += self.episode_reward[done].tolist()
            rollout.lengths += self.episode_length[done].tolist()
            self.episode_reward[done] = self.episode_length[done] = 0.0
            if transition.success is not None:
                rollout.successes += transition.success[done].astype(float).tolist()


def learn(
    agent: Agent, collector: Collector, on_update: Callable[[Metrics], object] | None = None
) -> dict[str, list[float]]:
    """Collect and update until the agent has taken `total_timesteps` steps; see `MLPAgent.train`.

    Args:
      agent: the agent of the collector.
      collector: the environments.
      on_update: called after each update with its metrics; True ends the training.

    Returns:
      {"episode_reward", "episode_length"} of each finished episode, and each other metric of each update.
    """
    history: dict[str, list[float]] = {"episode_reward": [], "episode_length": []}
    processes = agent.processes
    while agent.timesteps < agent.config.total_timesteps:
        start = time.perf_counter()
        rollout = collector.collect(agent)
        steps = rollout.valid_steps * processes.size  # every process collects as many
        collected = time.perf_counter()
        learned = agent.update()  # a collective operation, if there are several processes
        if not learned:
            continue  # every step only began an episode
        agent.timesteps += steps
        agent.updates += 1
        metrics = rollout.metrics() | learned
        metrics["update_seconds"] = time.perf_counter() - collected
        metrics["timesteps"] = float(agent.timesteps)
        metrics["steps_per_second"] = steps / (time.perf_counter() - start)
        history["episode_reward"] += rollout.rewards
        history["episode_length"] += rollout.lengths
        for key in metrics.keys() - {"episode_reward", "episode_length"}:
            history.setdefault(key, []).append(metrics[key])
        if on_update is not None and on_update(metrics):
            break
    return history


def take_action_range(agent: Agent, actions: ActionRange) -> None:
    """Set the action range of an agent; UserError if it has learned with another one."""
    if actions.width != agent.action_dim:
        raise UserError(
            f"The environment's actions have {actions.width} entries, and the agent was made for"
            f" action_dim={agent.action_dim}."
        )
    if agent.updates and not actions.same_as(agent.actions):
        raise UserError(
            f"The environment's actions are {actions}, and the agent has learned with"
            f" {agent.actions}; train it where it has learned, or a new agent here."
        )
    agent.actions = actions


def _map_leaves(value: State, kind: type[T], convert: Callable[[T], object]) -> State:
    """Return nested dicts in which every leaf of type `kind` is converted."""
    return {
        key: _map_leaves(leaf, kind, convert)
        if isinstance(leaf, dict)
        else (convert(leaf) if isinstance(leaf, kind) else leaf)
        for key, leaf in value.items()
    }
