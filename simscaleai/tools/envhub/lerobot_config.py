"""The environment type "simscale" of LeRobot; needs lerobot, and is imported by it.

    lerobot-eval --env.discover_packages_path=simscaleai.tools.envhub --env.type=simscale \
        --env.task=pick_place --env.cameras='[wrist_cam,front_cam]' --policy.path=outputs/act ...
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gymnasium.spaces import Dict
from gymnasium.vector import VectorEnv
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.envs.utils import freeze_after_episode_end
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from simscaleai.tools.envhub import LeRobotEnv, vectorize


@EnvConfig.register_subclass("simscale")
@dataclass
class SimScaleEnv(EnvConfig):
    """Settings of `LeRobotEnv`; features are those of the environment.

    Attributes:
      episode_length: longest episode, in steps.
      settings: further fields of `SimConfig`, such as dt, as given to `simscale datagen --env`.
    """

    task: str | None = "pick_place"
    cameras: list[str] = field(default_factory=list)
    image_size: int = 64
    robot: str = "panda"
    episode_length: int = 200
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        env = LeRobotEnv(**self.gym_kwargs)
        env.close()
        self.fps = env.metadata["render_fps"]
        spaces = env.observation_space
        assert isinstance(spaces, Dict)
        state = spaces["agent_pos"]
        self.features = {
            ACTION: PolicyFeature(FeatureType.ACTION, env.action_space.shape),
            "agent_pos": PolicyFeature(FeatureType.STATE, state.shape),
        }
        self.features_map = {ACTION: ACTION, "agent_pos": OBS_STATE}
        images = spaces["pixels"] if self.cameras else Dict()
        assert isinstance(images, Dict)
        for camera, space in images.items():
            # `--eval.recording` looks images up under this name, and not under "pixels/<camera>"
            name = f"{OBS_IMAGES}.{camera}"
            self.features[name] = PolicyFeature(FeatureType.VISUAL, space.shape)
            self.features_map[name] = name

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Arguments of `LeRobotEnv`."""
        return {
            **self.settings,
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
        # LeRobot steps all until the last has ended, and counts one reward more than those of the episode
        make = freeze_after_episode_end(partial(LeRobotEnv, **self.gym_kwargs))
        return {self.type: {0: vectorize(make, n_envs, use_async_envs)}}
