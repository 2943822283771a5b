"""Our tasks for LeRobot: observations, infos and attributes as `lerobot-eval` expects them.

    envs = make_env(n_envs=4, task="pick_place", cameras=("wrist_cam", "front_cam"))

`make_env` is the entry of an EnvHub repository, whose `env.py` needs two lines:

    from functools import partial
    from simscaleai.tools import envhub
    make_env = partial(envhub.make_env, task="pick_place", cameras=("wrist_cam", "front_cam"))

`lerobot_config` registers the same environments as the type "simscale" of `lerobot-eval --env.type`.
An environment gives what `simscale export --format lerobot` writes: a policy that LeRobot trained on an
exported dataset acts here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from simscaleai.array_types import Array
from simscaleai.convert import converted
from simscaleai.errors import UserError
from simscaleai.observations import flatten_state
from simscaleai.sim.factory import make_env as make_single_env
from simscaleai.sim.scene_cameras import scene_cameras
from simscaleai.sim.task_env import TaskEnv

Obs = dict[str, Any]
"""{"agent_pos": state (d,) float32, "pixels": {camera: (H, W, 3) uint8}}; without cameras no "pixels"."""


class LeRobotEnv(gym.Env[Obs, NDArray[np.float32]]):
    """One environment with LeRobot's names.

    Args:
      task: a registered environment.
      cameras: names; without any, observations have no images.
      image_size: pixels per side.
      settings: further fields of `SimConfig`, such as robot.

    Attributes:
      task: name of the environment.
      _max_episode_steps: longest episode, in steps; the name that `lerobot-eval` asks for.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}
    render_mode = "rgb_array"

    def __init__(
        self, task: str, cameras: Sequence[str] = (), image_size: int = 64, **settings: Any
    ) -> None:
        found = scene_cameras(task, cameras, image_size, **settings) if cameras else []
        made = make_single_env(task, render_mode="rgb_array", **{**settings, "cameras": found})
        if not isinstance(made, TaskEnv):
            raise UserError(
                f"The environment {task!r} is no `Task`, which LeRobot's names are taken from; register a"
                " task instead."
            )
        self._env = made
        self.task = task
        self._cameras = [camera.name for camera in found]
        self._max_episode_steps = self._env.config.max_episode_steps
        self.metadata = {**self.metadata, "render_fps": round(1 / self._env.contract.control_dt)}
        self.action_space = self._env.action_space
        first = self._converted(self._env.observation_space.sample())
        self.observation_space = spaces.Dict({key: _space(value) for key, value in first.items()})

    @property
    def task_description(self) -> str:
        """What the present episode is asked to do, in words."""
        return self._env.instruction()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        super().reset(seed=seed)
        # LeRobot's own options, of which ours know none, are left out
        obs, info = self._env.reset(seed=seed)
        return self._converted(obs), {**_plain(info), "is_success": False}

    def step(self, action: NDArray[np.float32]) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        # a network leaves the range by a little; ours end at its limits
        bounded = np.clip(np.asarray(action, np.float32), -1, 1)
        obs, reward, terminated, truncated, info = self._env.step(bounded)
        success = bool(info["success"])
        about = {**_plain(info), "is_success": success}
        return self._converted(obs), float(reward), bool(terminated), bool(truncated), about

    def render(self) -> Array:  # one frame, (H, W, 3) uint8
        frame = self._env.render()
        assert frame is not None
        return frame

    def close(self) -> None:
        self._env.close()

    def _converted(self, obs: dict[str, Array]) -> Obs:
        found: Obs = {"agent_pos": flatten_state(obs).astype(np.float32)}
        if self._cameras:
            # of one camera there is `image` alone
            images = [obs["image"]]
            if len(self._cameras) > 1:
                images = [obs[f"images/{name}"] for name in self._cameras]
            found["pixels"] = dict(zip(self._cameras, images, strict=True))
        return found


@converted
def make_env(
    n_envs: int = 1,
    use_async_envs: bool = False,
    cfg: Any = None,
    *,
    task: str = "pick_place",
    cameras: Sequence[str] = (),
    image_size: int = 64,
    **settings: Any,
) -> VectorEnv:
    """Return a vector environment for LeRobot; `cfg`, which it passes on, is not read.

    Args:
      n_envs: number of environments.
      use_async_envs: whether each runs in a process of its own.
      cfg: LeRobot's configuration of a Hub environment.
      task, cameras, image_size, settings: see `LeRobotEnv`.
    """
    make = partial(LeRobotEnv, task, tuple(cameras), image_size, **settings)
    return vectorize(make, n_envs, use_async_envs)


def vectorize(
    make: Callable[[], gym.Env[Any, Any]], n_envs: int, use_async_envs: bool
) -> VectorEnv:
    """Return n environments that `make` makes, each in a process of its own or all in this one."""
    # the info of the last step, where LeRobot looks for the success, is there in this mode alone
    mode = AutoresetMode.SAME_STEP
    if use_async_envs and n_envs > 1:
        return AsyncVectorEnv([make] * n_envs, context="spawn", autoreset_mode=mode)
    return SyncVectorEnv([make] * n_envs, autoreset_mode=mode)


def _space(value: Any) -> spaces.Space[Any]:
    if isinstance(value, dict):
        return spaces.Dict({key: _space(part) for key, part in value.items()})
    if value.dtype == np.uint8:
        return spaces.Box(0, 255, value.shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, value.shape, np.float32)


def _plain(info: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of an info: vector environments stack them, and nothing else is needed."""
    return {k: v for k, v in info.items() if isinstance(v, bool | int | float | np.number)}
