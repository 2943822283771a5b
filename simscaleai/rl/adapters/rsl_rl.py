"""Our vector environments as a `VecEnv` of rsl_rl.

    envs = RslRlVecEnv(make_vec_env("reach", 1024, autoreset_mode="same_step"))
    OnPolicyRunner(envs, {"obs_groups": {"actor": ["policy"], "critic": ["policy"]}, ...}).learn(100)

There is one observation group, "policy": all vectors of an observation, sorted by name. Images are left out.
rsl_rl and tensordict are imported when an environment is made.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from simscaleai.errors import MissingPackageError, UserError
from simscaleai.observations import flatten_state
from simscaleai.sim.vector_env import TaskVectorEnv

Extras = dict[str, Any]


class RslRlVecEnv:
    """n environments for a runner of rsl_rl; see the module docstring.

    Args:
      envs: of `make_vec_env`, with autoreset_mode="same_step".
      device: where tensors are.
      seed: of the first reset.

    Attributes:
      num_actions: how many numbers an action has; the environment clips them to its bounds.
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
        VecEnv.register(RslRlVecEnv)  # an abstract class, and nothing more
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
        """Steps of the episodes so far, (n,); set it to spread the ends of first episodes."""
        return torch.from_numpy(self.envs.steps.copy()).to(self.device)

    @episode_length_buf.setter
    def episode_length_buf(self, steps: torch.Tensor) -> None:
        self.envs.steps[:] = steps.cpu().numpy()

    def get_observations(self) -> Any:
        """The present observations, a TensorDict {"policy": (n, d) float32}."""
        state = self._tensor(flatten_state(self._obs), torch.float32)
        return self._tensordict({"policy": state}, batch_size=[self.num_envs], device=self.device)

    def reset(self) -> tuple[Any, Extras]:
        """Start new episodes everywhere."""
        self._obs = self.envs.reset()[0]
        return self.get_observations(), {}

    def step(self, actions: torch.Tensor) -> tuple[Any, torch.Tensor, torch.Tensor, Extras]:
        """Take one step with actions (n, num_actions): observations, rewards (n,), dones (n,), extras."""
        self._obs, reward, terminated, truncated, info = self.envs.step(actions.cpu().numpy())
        done = terminated | truncated
        extras: Extras = {"time_outs": self._tensor(truncated & ~terminated, torch.bool)}
        if done.any():
            success = info["final_info"]["success"][done]
            extras["log"] = {"/success": self._tensor(success, torch.float32)}
        rewards = self._tensor(reward, torch.float32)
        return self.get_observations(), rewards, self._tensor(done, torch.long), extras

    def close(self) -> None:
        """Release what the environments hold."""
        self.envs.close()

    def _tensor(self, values: NDArray[np.generic], dtype: torch.dtype) -> torch.Tensor:
        return torch.as_tensor(values, dtype=dtype, device=self.device)
