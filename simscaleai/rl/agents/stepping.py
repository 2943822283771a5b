"""One way to step whatever environment an agent is given: a single one, or a vector environment.

    stepper = Stepper(env)
    obs = stepper.reset(seed=0)              # (n, obs_dim) float32
    step = stepper.step(actions)             # (n, action_dim)
    obs = step.obs                           # what to act on next; finished rows have begun anew

Whatever the environment's autoreset does, a finished episode's last observation is in `step.final_obs`,
and rows that only began an episode in this step are not `valid`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from simscaleai.rl.agents.view import StateView


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
    """

    obs: NDArray[np.float32]
    final_obs: NDArray[np.float32]
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    success: NDArray[np.bool_] | None
    terms: dict[str, NDArray[np.float64]]


class Stepper:
    """See the module docstring.

    Args:
      env: the environment.
      view: what is given of its observations; all vectors by default.

    Attributes:
      n: how many environments.
      begins: (n,) bool, rows whose next step only begins an episode.
      raw: the newest observation as the environment gave it.
    """

    raw: Any

    def __init__(self, env: Any, view: StateView | None = None) -> None:
        self.env, self._view = env, view or StateView()
        self._single = not isinstance(env, VectorEnv)
        if self._single:
            assert isinstance(env, gymnasium.Env)
            self.n = 1
        else:
            self.n = env.num_envs
            self._mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self.begins = np.zeros(self.n, dtype=bool)

    def reset(self, seed: int | None = None) -> NDArray[np.float32]:
        """Begin new episodes in all rows."""
        self.begins = np.zeros(self.n, dtype=bool)
        return self._first(self.env.reset(seed=seed)[0])

    def restore(self, state: Any, begins: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Go on where environments were when their state was taken."""
        self.begins = begins
        return self._first(self.env.set_state(state))

    def _first(self, obs: Any) -> NDArray[np.float32]:
        self.raw = obs
        return self._flat(obs)

    def step(self, actions: NDArray[np.float32]) -> Step:
        """Take one step with actions (n, action_dim)."""
        if self._single:
            return self._step_single(actions[0])
        obs, reward, terminated, truncated, info = self.env.step(actions)
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
            info = _ended(info, info.get("final_info", {}), done)
        return Step(
            flat,
            final,
            np.asarray(reward, dtype=np.float64),
            terminated,
            truncated,
            valid,
            info.get("success"),
            info.get("reward_terms", {}),
        )

    def _step_single(self, action: NDArray[np.float32]) -> Step:
        obs, reward, terminated, truncated, info = self.env.step(action)
        flat = final = self._flat(obs)
        if terminated or truncated:
            obs = self.env.reset()[0]
            flat = self._flat(obs)
        self.raw = obs
        success = info.get("success")
        return Step(
            flat,
            final,
            np.array([float(reward)]),
            np.array([bool(terminated)]),
            np.array([bool(truncated)]),
            np.ones(1, dtype=bool),
            None if success is None else np.array([bool(success)]),
            {k: np.array([v]) for k, v in info.get("reward_terms", {}).items()},
        )

    def _final(
        self, info: dict[str, Any], flat: NDArray[np.float32], done: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """The last observations where episodes ended, those of now elsewhere."""
        given = info["final_obs"][done]  # one observation for each row that is done
        if isinstance(given[0], dict):
            last = self._view({key: np.stack([obs[key] for obs in given]) for key in given[0]})
        else:
            last = self._view(np.stack(list(given)))
        final = flat.copy()
        final[done] = last.reshape(len(given), -1)
        return final

    def _flat(self, obs: Any) -> NDArray[np.float32]:
        return self._view(obs).reshape(self.n, -1)


def _ended(info: dict[str, Any], final: dict[str, Any], done: NDArray[np.bool_]) -> dict[str, Any]:
    """The info of the states that the actions led to: `final` where episodes ended, else `info`."""
    merged = dict(info)
    for key, last in final.items():
        now = info.get(key, last)
        if isinstance(last, dict):
            merged[key] = _ended(now, last, done)
        else:
            merged[key] = np.where(done, last, now)
    return merged
