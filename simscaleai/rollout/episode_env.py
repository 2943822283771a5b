"""Any Gymnasium environment, single or vector, as n envs that are reset for episodes and stepped together."""

from __future__ import annotations

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from simscaleai.array_types import BoolArray, FloatArray
from simscaleai.contract import EnvContract
from simscaleai.infos import last_info
from simscaleai.rollout.env_checks import ResetOptions, as_rewards, entries, reset_all, task_of
from simscaleai.rollout.gym_types import Action, GymEnv, Info, Obs
from simscaleai.sim.vector_env import TaskVectorEnv


class EpisodeEnv:
    """See the module docstring.

    Attributes:
      env: the environment.
      single: whether it is a single one, whose observations and infos have no leading axis.
      num_envs: 1 for a single one.
      task: the `Task` of an environment of this package; None for others.
      has_instructions: whether it is of this package, and asks for something in words.
      resets_alone: whether one env can be reset while the others go on.
      stands_still: whether an env whose episode is over may be stepped without a reset.
    """

    def __init__(self, env: GymEnv) -> None:
        self.env = env
        self.single = not isinstance(env, VectorEnv)
        self.num_envs = 1 if self.single else env.num_envs
        self.task = task_of(env)
        asks = callable(getattr(getattr(env, "unwrapped", env), "instruction", None))
        self.has_instructions = asks and EnvContract.of(env) is not None
        # Gymnasium's own vector environments before 1.1 say no mode, and are of this one
        metadata = getattr(env, "metadata", None) or {}
        mode = metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        ours = isinstance(getattr(env, "unwrapped", env), TaskVectorEnv)
        self._same_step = not self.single and mode == AutoresetMode.SAME_STEP
        self.resets_alone = self.single or ours or mode == AutoresetMode.DISABLED
        # Gymnasium leaves open what a step of a finished env does; most raise
        self.stands_still = ours

    def instruction(self, env_id: int) -> str:
        """Return what the present episode of an env is asked to do, where `has_instructions`."""
        said: str = self.env.unwrapped.instruction(env_id)
        return said

    def reset(self, mask: BoolArray, seeds: list[int]) -> tuple[Obs, Info]:
        """Begin episodes.

        Args:
          mask: (n,), which envs; all of them where `resets_alone` is False.
          seeds: n. Where the environment takes but one, that one is in every entry afterwards.

        Returns:
          observation and info, as the environment gave them.
        """
        if self.single:
            returned = self.env.reset(seed=seeds[0])
        else:
            # a copy: vector environments may keep or change their options
            options: ResetOptions | None = (
                {"reset_mask": mask.copy()} if self.resets_alone else None
            )
            returned = reset_all(self.env, seeds, options)
        obs, info = entries(returned, 2, "reset", self.env)
        return obs, info

    def step(self, action: Action) -> tuple[Obs, FloatArray, BoolArray, Info]:
        """Take one control step.

        Returns:
          observation, reward (n,), which envs are terminated or truncated (n,), and the info of the states
          that the actions led to.
        """
        obs, reward, terminated, truncated, info = entries(
            self.env.step(action), 5, "step", self.env
        )
        if self.single:
            over = np.array([bool(terminated) or bool(truncated)])
        else:
            over = np.asarray(terminated, dtype=bool) | np.asarray(truncated, dtype=bool)
        if self._same_step and over.any():
            # `info` is that of the next episode already where one has ended
            info = last_info(info, info.get("final_info", {}), over)
        return obs, as_rewards(reward, self.num_envs, self.env), over, info
