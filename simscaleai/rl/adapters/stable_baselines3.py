"""Adapter from a Gymnasium vector environment to a `VecEnv` of Stable-Baselines3.

    envs = SB3VecEnv(make_vec_env("reach", 64, autoreset_mode="same_step"))
    PPO("MultiInputPolicy", VecMonitor(envs)).learn(100_000)

    envs = SB3VecEnv(make_vec_env("reach_goal", 8, autoreset_mode="same_step"))
    SAC("MultiInputPolicy", envs, replay_buffer_class=HerReplayBuffer)

Importing this module imports stable_baselines3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from simscaleai.errors import MissingPackageError, UserError

Info = dict[str, Any]  # values are whatever an environment reports
Indices = int | Iterable[int] | None

try:
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise MissingPackageError(
        "SB3VecEnv needs Stable-Baselines3; install it with: pip install stable-baselines3."
    ) from error


if TYPE_CHECKING:
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn


class SB3VecEnv(VecEnv):
    """n environments for an algorithm of Stable-Baselines3; see the module docstring.

    Args:
      envs: ours or another Gymnasium vector environment, with the autoreset mode "same_step".

    Raises:
      UserError: another autoreset mode.
    """

    def __init__(self, envs: VectorEnv) -> None:
        mode = envs.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise UserError(
                f"Stable-Baselines3 starts a finished episode at once, and the autoreset mode is {mode};"
                ' make the environment with autoreset_mode="same_step".'
            )
        self.envs = envs
        # wrappers do not forward `call`, `get_attr` and `set_attr`
        self._base: Any = envs.unwrapped
        self._actions: NDArray[np.generic] | None = None
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> VecEnvObs:
        """Start new episodes with the seeds that were set by `seed`."""
        # `Any`: Gymnasium's annotation omits the list of seeds that its environments take
        seeds: Any = None if self._seeds[0] is None else list(self._seeds)
        obs, info = self.envs.reset(seed=seeds, options=self._options[0] or None)
        self.reset_infos = info_of_each(info, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return obs

    def step_async(self, actions: NDArray[np.generic]) -> None:
        """Store `actions` for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step; infos of finished episodes have `terminal_observation`."""
        assert self._actions is not None, "call step_async first"
        obs, reward, terminated, truncated, info = self.envs.step(self._actions)
        done = terminated | truncated
        last, ended = info.pop("final_obs", None), info.pop("final_info", {})
        infos = info_of_each(info, self.num_envs)
        if done.any():
            final_infos = info_of_each(ended, self.num_envs)
        # `info` belongs to the new episodes; SB3 expects the last info of the old ones
        for i in np.flatnonzero(done).tolist():
            self.reset_infos[i] = infos[i]
            infos[i] = final_infos[i] | {"terminal_observation": last[i]}
        for i, cut in enumerate((truncated & ~terminated).tolist()):
            infos[i]["TimeLimit.truncated"] = cut
        return obs, np.asarray(reward, dtype=np.float32), done, infos

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Return one frame of each environment."""
        frames: Any = self.envs.render()  # (H, W, 3) of each, in the mode "rgb_array"
        return [None] * self.num_envs if frames is None else list(frames)

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[object]:
        """Return an attribute of the environments `indices`, of all by default."""
        values = self._base.get_attr(attr_name)
        return [values[i] for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: object, indices: Indices = None) -> None:
        """Set an attribute of the environments `indices`, of all by default."""
        # Gymnasium sets the attribute of all: the others keep their values
        values = list(self.get_attr(attr_name)) if self.has_attr(attr_name) else []
        values = values or [None] * self.num_envs
        for i in self._get_indices(indices):
            values[i] = value
        self._base.set_attr(attr_name, values)

    def env_method(
        self,
        method_name: str,
        *method_args: object,
        indices: Indices = None,
        **method_kwargs: object,
    ) -> list[object]:
        """Return the results of a method in the environments `indices`, in all by default."""
        values = self._base.call(method_name, *method_args, **method_kwargs)
        return [values[i] for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: object, indices: Indices = None) -> list[bool]:
        """Return False for each environment: single environments have no wrappers here."""
        return [False for _ in self._get_indices(indices)]

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()


def info_of_each(info: Info, n: int) -> list[Info]:
    """Split Gymnasium's info of n environments, {key: (n, ...), _key: (n,) mask}, into n dicts."""
    found: list[Info] = [{} for _ in range(n)]
    for key, value in info.items():
        if key.startswith("_"):
            continue
        values = info_of_each(value, n) if isinstance(value, dict) else value
        # plain values, as SB3 writes them to CSV
        if isinstance(values, np.ndarray) and values.ndim == 1:
            values = values.tolist()
        mask = info.get(f"_{key}")  # which environments reported the key
        for i in range(n) if mask is None or mask.all() else np.flatnonzero(mask).tolist():
            found[i][key] = values[i]
    return found
