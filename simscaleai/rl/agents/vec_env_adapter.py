"""Adapt any Gymnasium environment, single or vector, to transitions of n environments.

    envs = VecEnvAdapter(env)
    obs = envs.reset(seed=0)                 # (n, obs_dim) float32
    transition = envs.step(actions)          # (n, action_dim), scaled from [-1, 1] to the action space
    obs = transition.obs                     # for the next action; finished envs have begun new episodes

In every autoreset mode, the last observation of a finished episode is in `transition.final_obs`, and envs
that only began an episode in this step are not `valid`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from simscaleai.actions import ActionRange
from simscaleai.errors import UserError
from simscaleai.infos import last_info, read_success
from simscaleai.observations import as_array, observation_leaves
from simscaleai.rl.agents.state_extractor import Observation, StateExtractor
from simscaleai.rollout.env_checks import as_rewards, entries, name_of, takes_long_seeds
from simscaleai.rollout.gym_types import GymEnv, Info


@dataclass(frozen=True)
class Transition:
    """Result of one action in each of n environments.

    Attributes:
      obs: (n, obs_dim), observations for the next action.
      final_obs: (n, obs_dim), observations after the action; differs from `obs` in envs that are done.
      reward: (n,).
      terminated, truncated: (n,) bool.
      valid: (n,) bool, False in envs that ignored the action and began an episode.
      success: (n,) bool, of the state after the action; None if the environment reports none.
      terms: {name: (n,)}, terms of the reward; {} if the environment reports none.
      diverged: (n,) bool, envs whose physics became unstable, so that reward and observation are not
        results of the action.
    """

    obs: NDArray[np.float32]
    final_obs: NDArray[np.float32]
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    success: NDArray[np.bool_] | None
    terms: dict[str, NDArray[np.float64]]
    diverged: NDArray[np.bool_]

    @property
    def done(self) -> NDArray[np.bool_]:
        """Whether the episode ended, (n,)."""
        return self.terminated | self.truncated

    @property
    def learnable(self) -> NDArray[np.bool_]:
        """Whether the action was used and led to a physically valid state, (n,)."""
        return self.valid & ~self.diverged

    @property
    def bootstraps(self) -> NDArray[np.bool_]:
        """Whether the episode was truncated, (n,): its return includes the value of `final_obs`."""
        return self.truncated & ~self.terminated


class VecEnvAdapter:
    """See the module docstring.

    Args:
      env: the environment.
      extractor: extracts states from its observations; all vectors by default.

    Attributes:
      num_envs: number of environments, n.
      actions: range of its actions.
      begins: (n,) bool, envs whose next step only begins an episode.
      raw: the newest observation as the environment returned it.

    Raises:
      UserError: `env` is no Gymnasium environment, or its actions are not numbers in finite bounds.
    """

    raw: Observation

    def __init__(self, env: GymEnv, extractor: StateExtractor | None = None) -> None:
        self.env, self._extractor = env, extractor or StateExtractor()
        self._single = isinstance(env, gymnasium.Env)
        if not self._single and not isinstance(env, VectorEnv):
            raise UserError(
                f"The environment is a {type(env).__name__}; agents learn in a gymnasium.Env or a"
                " gymnasium.vector.VectorEnv."
            )
        self.num_envs = 1 if self._single else env.num_envs
        # Gymnasium's default, for environments without an entry in their metadata
        self._mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        space = env.action_space if self._single else env.single_action_space
        self.actions = ActionRange.of(space)
        self.begins = np.zeros(self.num_envs, dtype=bool)
        self._steps = 0
        self._stable = np.zeros(self.num_envs, dtype=bool)

    def reset(self, seed: int | None = None) -> NDArray[np.float32]:
        """Begin new episodes in all envs."""
        if seed is not None and not takes_long_seeds(self.env):
            seed %= 2**31  # NumPy's old generators and C code take no more
        self.begins = np.zeros(self.num_envs, dtype=bool)
        return self._first(entries(self.env.reset(seed=seed), 2, "reset", self.env)[0])

    def restore(self, state: dict[str, object], begins: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Continue the episodes of `state`, a result of `env.get_state()`."""
        self.begins = begins
        return self._first(self.env.set_state(state))

    def _first(self, obs: Observation) -> NDArray[np.float32]:
        self.raw = obs
        return self._flat(obs)

    def step(self, actions: NDArray[np.float32]) -> Transition:
        """Take one step.

        Args:
          actions: (n, action_dim); -1 and 1 are the bounds of the action space, to which they are clipped.

        Raises:
          UserError: an observation or a reward is not finite, or not as the environment's spaces declare.
        """
        self._steps += 1
        executed = self.actions.executed(actions)  # (n, *shape), in the units of the environment
        if self._single:
            return self._step_single(np.asarray(executed[0]))
        obs, reward, terminated, truncated, info = entries(
            self.env.step(executed), 5, "step", self.env
        )
        done = terminated | truncated  # (n,)
        valid = ~self.begins  # in "next_step", the step after an end ignores its action
        flat = final = self._flat(obs)
        if self._mode == AutoresetMode.SAME_STEP and done.any():
            # `obs` belongs to the next episode; the last observation of the old one is in the info
            final = self._final(info, flat, done)
        elif self._mode == AutoresetMode.DISABLED and done.any():
            # reset the finished envs alone, the others continue
            obs = self.env.reset(options={"reset_mask": done})[0]
            flat = self._flat(obs)
        elif self._mode == AutoresetMode.NEXT_STEP:
            self.begins = done
        self.raw = obs
        if self._mode == AutoresetMode.SAME_STEP and done.any():
            info = last_info(info, info.get("final_info", {}), done)
        success, reported = read_success(info, self.num_envs)
        return Transition(
            flat,
            final,
            self._rewards(reward),
            terminated,
            truncated,
            valid,
            success if reported.any() else None,
            _terms(info, self.num_envs),
            np.asarray(info.get("diverged", self._stable), dtype=bool) & valid,
        )

    def _step_single(self, action: NDArray[np.floating]) -> Transition:
        obs, reward, terminated, truncated, info = entries(
            self.env.step(action), 5, "step", self.env
        )
        flat = final = self._flat(obs)
        if terminated or truncated:
            # a single environment never resets itself
            obs = self.env.reset()[0]
            flat = self._flat(obs)
        self.raw = obs
        success, reported = read_success(info)
        return Transition(
            flat,
            final,
            self._rewards(reward),
            np.array([bool(terminated)]),
            np.array([bool(truncated)]),
            np.ones(1, dtype=bool),
            success if reported.any() else None,
            _terms(info, 1),
            np.array([bool(info.get("diverged", False))]),
        )

    def _final(
        self, info: Info, flat: NDArray[np.float32], done: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return the last observations (n, obs_dim) of ended episodes, and `flat` in the other envs."""
        given = list(info["final_obs"][done])
        obs: Observation
        if isinstance(given[0], Mapping | tuple):
            assert self._extractor.spec is not None
            parts = [observation_leaves(obs) for obs in given]
            keys = self._extractor.spec.shapes
            obs = {key: np.stack([as_array(part[key]) for part in parts]) for key in keys}
        else:
            obs = np.stack([as_array(obs) for obs in given])
        final = flat.copy()  # (n, obs_dim); envs that continue have no other last observation
        final[done] = self._extractor(obs, True).reshape(len(given), -1)
        return self._finite(final)

    def _flat(self, obs: Observation) -> NDArray[np.float32]:
        return self._finite(self._extractor(obs, not self._single).reshape(self.num_envs, -1))

    def _finite(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        if not np.isfinite(flat).all():
            env_id = int(np.flatnonzero(~np.isfinite(flat).all(1))[0])
            raise UserError(
                f"The environment {name_of(self.env)!r} gave an observation that is not finite at step"
                f" {self._steps} in env {env_id}; nothing can be learned from that."
            )
        return flat

    def _rewards(self, given: object) -> NDArray[np.float64]:
        rewards = as_rewards(given, self.num_envs, self.env)
        if not np.isfinite(rewards).all():
            env_id = int(np.flatnonzero(~np.isfinite(rewards))[0])
            raise UserError(
                f"The environment {name_of(self.env)!r} gave the reward {rewards[env_id]} at step"
                f" {self._steps} in env {env_id}; nothing can be learned from that."
            )
        return rewards


def _terms(info: Info, n: int) -> dict[str, NDArray[np.float64]]:
    """Return the terms of the reward in the info of n environments, {name: (n,)}; {} if it has none."""
    terms = info.get("reward_terms")
    if not isinstance(terms, Mapping):
        return {}
    # Gymnasium adds a mask of the envs that reported a key, as "_<key>"
    found = {k: as_array(v) for k, v in terms.items() if not str(k).startswith("_")}
    return {k: v.reshape(n) for k, v in found.items() if v.size == n and v.dtype.kind in "biuf"}
