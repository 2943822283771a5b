"""A `Task` as a single Gymnasium environment: row 0 of the same definition that a batch runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from simscaleai.contract import EnvContract
from simscaleai.sim.base_env import BaseRobotEnv, SimConfig
from simscaleai.sim.physics import SingleSim
from simscaleai.sim.randomization import Randomizer
from simscaleai.sim.scene import ASSETS
from simscaleai.sim.spaces import (
    action_space,
    camera_observations,
    env_contract,
    observation_space,
)
from simscaleai.sim.task import Task

_ROW = np.zeros(1, dtype=np.intp)


class TaskEnv(BaseRobotEnv):
    """One environment of `task_class`, which a subclass names, or the caller."""

    task_class: type[Task]

    def __init__(
        self,
        config: SimConfig | None = None,
        render_mode: str | None = None,
        *,
        task_class: type[Task] | None = None,
    ) -> None:
        if task_class is not None:
            self.task_class = task_class
        self.sim: SingleSim  # made with the spaces, which need it
        self.task: Task
        super().__init__(config if config is not None else SimConfig(), render_mode)

    def _scene_path(self) -> str:
        return self.config.xml_path or str(ASSETS / self.task_class.xml)

    @property
    def contract(self) -> EnvContract:
        """What a policy relies on here."""
        assert isinstance(self.observation_space, spaces.Dict)
        return env_contract(self.task.name, self.config, self.observation_space)

    def states(self) -> NDArray[np.float64]:
        """The physics state for replay, (1, nstate); see `Sim.states`."""
        return self.sim.states()

    def instruction(self, row: int = 0) -> str:
        """What the present episode is told to do; as in a row of `TaskVectorEnv`."""
        assert self._seed is not None
        return self.task.instruct(self.sim, row, self._seed, self._episode)

    @property
    def compute_reward(self) -> Callable[..., Any]:
        """`GoalConditioned.compute_reward`; AttributeError where the task is not goal-conditioned.

        Stable-Baselines3 knows goal-conditioned environments by this attribute.
        """
        compute: Callable[..., Any] = self.task.compute_reward  # type: ignore[attr-defined]
        return compute

    def _build_observation_space(self) -> spaces.Dict:
        self.sim = SingleSim(self.model, self.data)
        self.task = self.task_class(self.model, self.config.control_dt, self.config.ik)
        if self.config.domain_randomization:
            self._randomizer = Randomizer(self.sim, self.config.randomization_level)
        return observation_space(self.task, self.sim, self.config)

    def _build_action_space(self) -> spaces.Box:
        return action_space(self.task)

    def _reset_task(self, rng: np.random.Generator) -> None:
        self.task.write_initial_state(self.sim, _ROW, rng.random((1, self.task.num_uniforms)))
        if self._randomizer is not None:
            self._randomizer.apply_to_state(_ROW, self._draws)

    def _begin_episode(self) -> None:
        self.task.begin(self.sim, _ROW)
        self._action = np.zeros((1, 4))
        self._read()

    def _apply_action(self, action: NDArray[np.float64]) -> None:
        self._action = action[None]
        self.task.controller.apply(self.sim, self._action)

    def _end_step(self) -> None:
        self.task.update(self.sim)
        self._read()

    def _read(self) -> None:
        self._measured = self.task.measure(self.sim)
        self._terms = self.task.terms(self.sim, self._measured, self._action)

    def _get_obs(self) -> dict[str, NDArray[Any]]:
        obs = {key: value[0] for key, value in self.task.observe(self.sim).items()}
        if self.config.cameras:
            seen = {camera.name: self._seen(camera.name) for camera in self.config.cameras}
            obs.update(camera_observations(seen))
        return obs

    def _seen(self, camera: str) -> dict[str, NDArray[Any]]:
        config = self.config
        return self.render_camera(camera, config.observe_depth, config.observe_segmentation)

    def _get_reward(self) -> float:
        return float(self.task.reward(self._terms)[0])

    def _is_terminated(self) -> bool:
        return bool(self._measured["success"][0])

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = {"step": self._step_count}
        for key, value in self._measured.items():
            info[key] = value[0].item()
        info["is_success"] = info["success"]
        info["reward_terms"] = {key: value[0].item() for key, value in self._terms.items()}
        return info

    def _reset_info(self) -> dict[str, Any]:
        info = self._get_info()
        info["seed"] = self._seed
        return info
