"""One way to step whatever environment an agent is given: a single one, or a vector environment.

    stepper = Stepper(env)
    obs = stepper.reset(seed=0)              # (n, obs_dim) float32
    step = stepper.step(units)               # (n, action_dim), of which [-1, 1] is the range of actions
    obs = step.obs                           # what to act on next; finished rows have begun anew

Whatever the environment's autoreset does, a finished episode's last observation is in `step.final_obs`,
and rows that only began an episode in this step are not `valid`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from simscaleai.actions import ActionRange
from simscaleai.errors import UserError
from simscaleai.infos import last_info, read_success
from simscaleai.observations import as_array, observation_parts
from simscaleai.rl.agents.view import StateView
from simscaleai.rollout.env_checks import as_rewards, entries, name_of, takes_long_seeds


@dataclass(frozen=True)
class Step:
    """One step of n environments.

    Attributes:
      obs: (n, obs_dim), what the next action is for.
      final_obs: (n, obs_dim), what the action led to; differs from `obs` in rows that are done.
      reward: (n,).
      terminated, truncated: (n,) bool.
      valid: (n,) bool, False in rows whose action was not used.
      success: (n,) bool, of the state that the action led to; None if the environment does not say.
      terms: {name: (n,)} that make up the reward; {} if the environment does not say.
      diverged: (n,) bool, rows whose physics became unstable: reward and observation are not what the
        action led to.
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


class Stepper:
    """See the module docstring.

    Args:
      env: the environment.
      view: what is given of its observations; all vectors by default.

    Attributes:
      n: how many environments.
      actions: the range in which they act.
      begins: (n,) bool, rows whose next step only begins an episode.
      raw: the newest observation as the environment gave it.

    Raises:
      UserError: `env` is no Gymnasium environment, or its actions are not numbers in finite bounds.
    """

    raw: Any

    def __init__(self, env: Any, view: StateView | None = None) -> None:
        self.env, self._view = env, view or StateView()
        self._single = isinstance(env, gymnasium.Env)
        if not self._single and not isinstance(env, VectorEnv):
            raise UserError(
                f"The environment is a {type(env).__name__}; PPO learns in a gymnasium.Env or a"
                " gymnasium.vector.VectorEnv."
            )
        self.n = 1 if self._single else env.num_envs
        self._mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        space = env.action_space if self._single else env.single_action_space
        self.actions = ActionRange.of(space)
        self.begins = np.zeros(self.n, dtype=bool)
        self._steps = 0
        self._stable = np.zeros(self.n, dtype=bool)

    def reset(self, seed: int | None = None) -> NDArray[np.float32]:
        """Begin new episodes in all rows."""
        if seed is not None and not takes_long_seeds(self.env):
            seed %= 2**31
        self.begins = np.zeros(self.n, dtype=bool)
        return self._first(entries(self.env.reset(seed=seed), 2, "reset", self.env)[0])

    def restore(self, state: Any, begins: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Go on where environments were when their state was taken."""
        self.begins = begins
        return self._first(self.env.set_state(state))

    def _first(self, obs: Any) -> NDArray[np.float32]:
        self.raw = obs
        return self._flat(obs)

    def step(self, units: NDArray[np.float32]) -> Step:
        """Take one step.

        Args:
          units: (n, action_dim), where -1 and 1 are the bounds of an action; what lies beyond is clipped.

        Raises:
          UserError: an observation or a reward is not finite, or not of the kind that was promised.
        """
        self._steps += 1
        actions = self.actions.executed(units)
        if self._single:
            return self._step_single(np.asarray(actions[0]))
        obs, reward, terminated, truncated, info = entries(
            self.env.step(actions), 5, "step", self.env
        )
        done = terminated | truncated
        valid = ~self.begins
        flat = final = self._flat(obs)
        if self._mode == AutoresetMode.SAME_STEP and done.any():
            final = self._final(info, flat, done)
        elif self._mode == AutoresetMode.DISABLED and done.any():
            obs = self.env.reset(options={"reset_mask": done})[0]
            flat = self._flat(obs)
        elif self._mode == AutoresetMode.NEXT_STEP:
            self.begins = done
        self.raw = obs
        if self._mode == AutoresetMode.SAME_STEP and done.any():
            info = last_info(info, info.get("final_info", {}), done)
        success, said = read_success(info, self.n)
        return Step(
            flat,
            final,
            self._rewards(reward),
            terminated,
            truncated,
            valid,
            success if said.any() else None,
            _terms(info, self.n),
            np.asarray(info.get("diverged", self._stable), dtype=bool) & valid,
        )

    def _step_single(self, action: NDArray[np.floating]) -> Step:
        obs, reward, terminated, truncated, info = entries(
            self.env.step(action), 5, "step", self.env
        )
        flat = final = self._flat(obs)
        if terminated or truncated:
            obs = self.env.reset()[0]
            flat = self._flat(obs)
        self.raw = obs
        success, said = read_success(info)
        return Step(
            flat,
            final,
            self._rewards(reward),
            np.array([bool(terminated)]),
            np.array([bool(truncated)]),
            np.ones(1, dtype=bool),
            success if said.any() else None,
            _terms(info, 1),
            np.array([bool(info.get("diverged", False))]),
        )

    def _final(
        self, info: dict[str, Any], flat: NDArray[np.float32], done: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """The last observations where episodes ended, those of now elsewhere."""
        given = list(info["final_obs"][done])
        obs: Any
        if isinstance(given[0], Mapping | tuple):
            assert self._view.spec is not None
            parts = [observation_parts(obs) for obs in given]
            shown = self._view.spec.shapes
            obs = {key: np.stack([as_array(part[key]) for part in parts]) for key in shown}
        else:
            obs = np.stack([as_array(obs) for obs in given])
        final = flat.copy()
        final[done] = self._view(obs, True).reshape(len(given), -1)
        return self._finite(final)

    def _flat(self, obs: Any) -> NDArray[np.float32]:
        return self._finite(self._view(obs, not self._single).reshape(self.n, -1))

    def _finite(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        if not np.isfinite(flat).all():
            env_id = int(np.flatnonzero(~np.isfinite(flat).all(1))[0])
            raise UserError(
                f"The environment {name_of(self.env)!r} gave an observation that is not finite at step"
                f" {self._steps} in env {env_id}; nothing can be learned from that."
            )
        return flat

    def _rewards(self, given: Any) -> NDArray[np.float64]:
        rewards = as_rewards(given, self.n, self.env)
        if not np.isfinite(rewards).all():
            env_id = int(np.flatnonzero(~np.isfinite(rewards))[0])
            raise UserError(
                f"The environment {name_of(self.env)!r} gave the reward {rewards[env_id]} at step"
                f" {self._steps} in env {env_id}; nothing can be learned from that."
            )
        return rewards


def _terms(info: Mapping[str, Any], n: int) -> dict[str, NDArray[np.float64]]:
    """The numbers that make up the rewards of n environments, {name: (n,)}, where an info has them."""
    terms = info.get("reward_terms")
    if not isinstance(terms, Mapping):
        return {}
    # Gymnasium puts masks of the environments that have a key beside it, as "_<key>"
    found = {k: as_array(v) for k, v in terms.items() if not str(k).startswith("_")}
    return {k: v.reshape(n) for k, v in found.items() if v.size == n and v.dtype.kind in "biuf"}
