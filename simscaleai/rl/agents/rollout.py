"""Collecting a rollout: the agent acts, and the buffer fills."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from simscaleai.errors import UserError
from simscaleai.rl.agents.buffer import RolloutBuffer
from simscaleai.rl.agents.moments import RunningMoments
from simscaleai.rl.agents.stepping import Stepper

if TYPE_CHECKING:
    from simscaleai.rl.agents.ppo import PPOAgent


@dataclass
class RolloutState:
    """Where n environments are between two steps.

    Attributes:
      stepper: the environments.
      obs: (n, obs_dim), what the next actions are for.
      discounted: (n,), discounted sums of rewards, whose spread scales the reward.
      reward, length: (n,), of the episodes under way.
    """

    stepper: Stepper
    obs: NDArray[np.float32]
    discounted: NDArray[np.float64]
    reward: NDArray[np.float64]
    length: NDArray[np.float64]

    @classmethod
    def begin(cls, stepper: Stepper, seed: int, saved: dict[str, Any] | None) -> RolloutState:
        """New episodes, or those of `saved` if the environments can be put there."""
        if saved is None or not hasattr(stepper.env, "set_state"):
            zero = np.zeros(stepper.n)
            return cls(stepper, stepper.reset(seed), zero, zero.copy(), zero.copy())
        saved = _converted(saved, torch.Tensor, lambda x: x.numpy().copy())
        obs = stepper.restore(saved["env"], saved["begins"])
        return cls(stepper, obs, saved["discounted"], saved["reward"], saved["length"])

    def saved(self) -> dict[str, Any] | None:
        """Plain values and tensors for `begin`; None for environments that cannot be saved."""
        if not hasattr(self.stepper.env, "get_state"):
            return None
        state = {
            "env": self.stepper.env.get_state(),
            "begins": self.stepper.begins,
            "discounted": self.discounted,
            "reward": self.reward,
            "length": self.length,
        }
        copied: dict[str, Any] = _converted(state, np.ndarray, lambda x: torch.from_numpy(x.copy()))
        return copied


def collect(
    agent: PPOAgent, state: RolloutState, buffer: RolloutBuffer
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Fill an empty buffer and compute its advantages; `state` moves on.

    Returns:
      numbers about the rollout ("diverged": episodes whose physics became unstable), and {"episode_reward",
      "episode_length"} of the episodes that ended in it.

    Raises:
      UserError: no step of the rollout is of any use.
    """
    config = agent.config
    episodes: dict[str, list[float]] = {"episode_reward": [], "episode_length": []}
    successes: list[float] = []
    terms: dict[str, float] = {}
    env_seconds, unstable = 0.0, 0
    # what this rollout has seen, which the processes will exchange, and all that this process knows of
    seen, returns = RunningMoments(agent.obs_dim), RunningMoments(1)
    known, known_returns = deepcopy(agent.obs_moments), deepcopy(agent.return_moments)
    with torch.no_grad():
        for _ in range(buffer.n_steps):
            for moments in (seen, known):
                moments.update(torch.from_numpy(state.obs))
            normalizer = agent.normalizer(known)
            rows = agent.normalized(state.obs, normalizer)
            actions, log_prob, value = agent.network.get_action(rows, generator=agent.noise)
            before = time.perf_counter()
            step = state.stepper.step(actions.cpu().numpy())
            env_seconds += time.perf_counter() - before
            done = step.terminated | step.truncated
            valid = step.valid & ~step.diverged
            reward = step.reward.copy()
            if config.scale_reward:
                state.discounted = state.discounted * config.gamma + step.reward
                for moments in (returns, known_returns):
                    moments.update(torch.from_numpy(state.discounted[valid, None]))
                state.discounted[done] = 0.0
                reward /= _scale(known_returns)
            ended = step.truncated & ~step.terminated
            if ended.any():  # the episode would have gone on: what it would have got counts
                rest = agent.network.value(agent.normalized(step.final_obs[ended], normalizer))
                reward[ended] += config.gamma * rest.cpu().numpy()
            if step.diverged.any():
                # Nothing is learned from the step itself, and the one before it led to a state that is
                # worth its value: an advantage of 0 here. Ending early is no way out of bad rewards.
                reward[step.diverged] = value.cpu().numpy()[step.diverged]
                unstable += int(step.diverged.sum())
            buffer.add(rows, actions, reward, done, log_prob, value, valid)
            state.obs = step.obs
            state.reward += step.reward
            state.length += valid
            for name, values in step.terms.items():
                terms[name] = terms.get(name, 0.0) + float(values[valid].sum())
            if done.any():
                episodes["episode_reward"] += state.reward[done].tolist()
                episodes["episode_length"] += state.length[done].tolist()
                state.reward[done] = state.length[done] = 0.0
                if step.success is not None:
                    successes += step.success[done].astype(float).tolist()
        last = agent.network.value(agent.normalized(state.obs, normalizer))
    buffer.compute_gae(last, config.gamma, config.gae_lambda)
    agent.obs_moments.merge(seen.over(agent.processes))
    agent.return_moments.merge(returns.over(agent.processes))
    taken = int(buffer.valid.sum())
    if not taken and unstable > buffer.num_envs:
        raise UserError(
            "The physics became unstable in every step of a rollout; use a smaller dt, or stiffnesses,"
            " dampings and masses in the scene that fit it."
        )
    numbers = {f"reward/{name}": total / max(taken, 1) for name, total in terms.items()}
    numbers |= {key: float(np.mean(values)) for key, values in episodes.items() if values}
    if successes:
        numbers["success_rate"] = float(np.mean(successes))
    numbers["env_seconds"] = env_seconds
    numbers["diverged"] = float(unstable)
    return numbers, episodes


def _scale(returns: RunningMoments) -> float:
    """What rewards are divided by; 1 while their discounted sums were all the same, as the first is."""
    std = returns.statistics().std.item()
    return max(std, 1e-4) if returns.count > 1 and std > 1e-8 else 1.0


def _converted(value: Any, kind: type, convert: Any) -> Any:
    """Nested plain data with every leaf of a kind converted."""
    if isinstance(value, dict):
        return {k: _converted(v, kind, convert) for k, v in value.items()}
    return convert(value) if isinstance(value, kind) else value
