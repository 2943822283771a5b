"""The environment type "simscale" of LeRobot; needs lerobot, and is imported by it.

    lerobot-eval --env.discover_packages_path=simscaleai.tools.envhub --env.type=simscale \
        --env.task=pick_place --env.cameras='[wrist_cam,front_cam]' --policy.path=outputs/act ...
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gymnasium.vector import VectorEnv
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from simscaleai.tools.envhub import LeRobotEnv, make_env


@EnvConfig.register_subclass("simscale")
@dataclass
class SimScaleEnv(EnvConfig):
    """Settings of `make_env`; features are those of the environment."""

    task: str | None = "pick_place"
    cameras: list[str] = field(default_factory=list)
    image_size: int = 64
    robot: str = "panda"
    episode_length: int = 200

    def __post_init__(self) -> None:
        env = LeRobotEnv(**self.gym_kwargs)
        self.fps = env.metadata["render_fps"]
        obs, _ = env.reset(seed=0)
        env.close()
        self.features = {
            ACTION: PolicyFeature(FeatureType.ACTION, env.action_space.shape),
            "agent_pos": PolicyFeature(FeatureType.STATE, obs["agent_pos"].shape),
        }
        self.features_map = {ACTION: ACTION, "agent_pos": OBS_STATE}
        shape = (self.image_size, self.image_size, 3)
        for camera in self.cameras:
            self.features[f"pixels/{camera}"] = PolicyFeature(FeatureType.VISUAL, shape)
            self.features_map[f"pixels/{camera}"] = f"{OBS_IMAGES}.{camera}"

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Arguments of `LeRobotEnv`."""
        return {
            "task": self.task,
            "cameras": self.cameras,
            "image_size": self.image_size,
            "robot": self.robot,
            "max_episode_steps": self.episode_length,
        }

    def create_envs(
        self, n_envs: int, use_async_envs: bool = False
    ) -> dict[str, dict[int, VectorEnv]]:
        """Return {type: {0: environment}}."""
        return {self.type: {0: make_env(n_envs, use_async_envs, **self.gym_kwargs)}}
