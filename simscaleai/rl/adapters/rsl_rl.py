"""Adapter from our vector environments to a `VecEnv` of rsl_rl.

    envs = RslRlVecEnv(make_vec_env("reach", 1024, autoreset_mode="same_step"))
    OnPolicyRunner(envs, {"obs_groups": {"actor": ["policy"], "critic": ["policy"]}, ...}).learn(100)

The only observation group is "policy": all vectors of an observation, sorted by name. Images are left out.
The constructor imports rsl_rl and tensordict.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from simscaleai.errors import MissingPackageError, UserError
from simscaleai.observations import flatten_state
from simscaleai.sim.vector_env import TaskVectorEnv

if TYPE_CHECKING:
    from tensordict import TensorDict

# "time_outs": tensor (n,), and "log": {name: tensor}, as rsl_rl's runner reads them
Extras = dict[str, torch.Tensor | dict[str, torch.Tensor]]


class RslRlVecEnv:
    """n environments for a runner of rsl_rl; see the module docstring.

    Args:
      envs: result of `make_vec_env` with autoreset_mode="same_step".
      device: device of the tensors.
      seed: seed of the first reset.

    Attributes:
      num_actions: width of an action; the environment clips actions to its bounds.
      max_episode_length: steps until an episode is truncated.
      cfg: the environment's settings, for the log.

    Raises:
      UserError: another autoreset mode, or rsl_rl is not installed.
    """

    def __init__(self, envs: TaskVectorEnv, device: str = "cpu", seed: int | None = None) -> None:
        try:
            from rsl_rl.env import VecEnv
            from tensordict import TensorDict
        except ImportError as error:
            raise MissingPackageError(
                "RslRlVecEnv needs rsl_rl; install it with: pip install rsl-rl-lib."
            ) from error
        if envs.autoreset_mode != AutoresetMode.SAME_STEP:
            raise UserError(
                f"rsl_rl starts a finished episode at once, and the autoreset mode is"
                f' {envs.autoreset_mode}; make the environment with autoreset_mode="same_step".'
            )
        # a virtual subclass: importing this module does not need rsl_rl
        VecEnv.register(RslRlVecEnv)
        self._tensordict = TensorDict
        self.envs = envs
        self.device = device
        self.num_envs = envs.num_envs
        self.num_actions = envs.contract.action_dim
        self.max_episode_length = envs.config.max_episode_steps
        self.cfg = asdict(envs.config)
        self._obs = envs.reset(seed=seed)[0]

    @property
    def episode_length_buf(self) -> torch.Tensor:
        """Steps of the current episodes, (n,); setting it lets the first episodes end at different times."""
        # a copy: the environment updates its counters in place
        return torch.from_numpy(self.envs.steps.copy()).to(self.device)

    @episode_length_buf.setter
    def episode_length_buf(self, steps: torch.Tensor) -> None:
        self.envs.steps[:] = steps.cpu().numpy()

    def get_observations(self) -> TensorDict:
        """Return the current observations, a TensorDict {"policy": (n, d) float32}."""
        state = self._tensor(flatten_state(self._obs), torch.float32)
        return self._tensordict({"policy": state}, batch_size=[self.num_envs], device=self.device)

    def reset(self) -> tuple[TensorDict, Extras]:
        """Start new episodes in all environments."""
        self._obs = self.envs.reset()[0]
        return self.get_observations(), {}

    def step(self, actions: torch.Tensor) -> tuple[TensorDict, torch.Tensor, torch.Tensor, Extras]:
        """Step with actions (n, num_actions); return observations, rewards (n,), dones (n,), extras."""
        self._obs, reward, terminated, truncated, info = self.envs.step(actions.cpu().numpy())
        done = terminated | truncated
        # rsl_rl bootstraps the value where a time limit ended the episode
        extras: Extras = {"time_outs": self._tensor(truncated & ~terminated, torch.bool)}
        if done.any():
            success = info["final_info"]["success"][done]
            # a name with a slash is logged as it is, others below "Episode/"
            extras["log"] = {"/success": self._tensor(success, torch.float32)}
        rewards = self._tensor(reward, torch.float32)
        return self.get_observations(), rewards, self._tensor(done, torch.long), extras

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()

    def _tensor(self, values: NDArray[np.generic], dtype: torch.dtype) -> torch.Tensor:
        return torch.as_tensor(values, dtype=dtype, device=self.device)
