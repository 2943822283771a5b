"""A `Task` as a single Gymnasium environment: a `TaskCore` with n = 1 behind the hooks of `BaseRobotEnv`.

A subclass may replace any hook; the loop that calls them is that of `BaseRobotEnv`.
"""

from __future__ import annotations

import mujoco
import numpy as np
from gymnasium import spaces

from simscaleai.array_types import FloatArray
from simscaleai.contract import EnvContract
from simscaleai.rendering import Renderer
from simscaleai.sim.base_env import BaseRobotEnv, SimConfig
from simscaleai.sim.core import TaskCore
from simscaleai.sim.env_types import GoalReward, InfoDict, ObsDict
from simscaleai.sim.robots.robot import find_robot
from simscaleai.sim.scene import ASSETS, load_model
from simscaleai.sim.single_sim import SingleSim
from simscaleai.sim.task import Task
from simscaleai.sim.task_setup import make_task

_ENV = np.zeros(1, dtype=np.intp)  # the env ids of the only one


class TaskEnv(BaseRobotEnv):
    """Single environment of `task_class`, which is set by a subclass or passed by the caller."""

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
        self.core: TaskCore  # made with the spaces, which need it
        super().__init__(config if config is not None else SimConfig(), render_mode)

    def _scene_path(self) -> str:
        return self.config.xml_path or str(ASSETS / self.task_class.xml)

    def _load_model(self) -> mujoco.MjModel:
        robot, poses = find_robot(self.config.robot), self.config.camera_poses
        return load_model(self._scene_path(), self.config.dt, robot, poses)

    @property
    def sim(self) -> SingleSim:
        """Simulation, as arrays with a leading axis of 1."""
        assert isinstance(self.core.sim, SingleSim)
        return self.core.sim

    @property
    def task(self) -> Task:
        """Task of the episodes."""
        return self.core.task

    @property
    def contract(self) -> EnvContract:
        """Properties of the environment that a policy relies on."""
        return self.core.contract

    def states(self) -> FloatArray:
        """Return the physics state for replay, (1, nstate); see `Sim.states`."""
        return self.sim.states()

    def instruction(self, env_id: int = 0) -> str:
        """Return the instruction of the present episode; as for an env of `TaskVectorEnv`."""
        return self.core.instruction(env_id)

    @property
    def compute_reward(self) -> GoalReward:
        """`GoalConditioned.compute_reward`; AttributeError where the task is not goal-conditioned.

        Stable-Baselines3 knows goal-conditioned environments by this attribute.
        """
        compute: GoalReward = self.task.compute_reward  # type: ignore[attr-defined]
        return compute

    # hooks of BaseRobotEnv

    def _build_observation_space(self) -> spaces.Dict:
        config = self.config
        self._renderer = Renderer(self.model, config.cameras, engine=config.render_engine)
        task = make_task(self.task_class, self.model, config)
        sim = SingleSim(self.model, self.data)
        self.core = TaskCore(task, sim, config, self._renderer, self.substeps)
        self._randomizer, self._draws = self.core.randomizer, self.core.draws
        return self.core.observation_space

    def _build_action_space(self) -> spaces.Box:
        return self.core.action_space

    def _apply_domain_randomization(self, rng: np.random.Generator) -> None:
        assert self._randomizer is not None
        self.core.randomize(_ENV, rng.random((1, self._randomizer.num_uniforms)))
        self.sim.reset(_ENV)

    def _reset_task(self, rng: np.random.Generator) -> None:
        self.core.place(_ENV, rng.random((1, self.task.num_uniforms)))

    def _begin_episode(self) -> None:
        assert self._seed is not None
        self.core.seeds, self.core.episodes[0] = [self._seed], self._episode
        self.core.start(_ENV)
        # info of the start, as after an action of zero
        self._action = np.zeros((1, *self.core.action_space.shape))
        self.core.measure(self._action)

    def _apply_action(self, action: FloatArray) -> None:
        self._action = action[None]
        self.core.act(self._action)

    def _end_step(self) -> None:
        self.core.post_step()
        self.core.measure(self._action)

    def _get_obs(self) -> ObsDict:
        return {key: value[0] for key, value in self.core.observe().items()}

    def _get_reward(self) -> float:
        return float(self.core.reward()[0])

    def _is_terminated(self) -> bool:
        return bool(self.core.terminated()[0])

    def _get_info(self) -> InfoDict:
        info = self.core.info()
        terms = info.pop("reward_terms")
        # Gymnasium's checkers expect Python numbers, not arrays of one
        numbers: InfoDict = {key: value.item() for key, value in info.items()}
        numbers["reward_terms"] = {key: value.item() for key, value in terms.items()}
        return numbers

    def _reset_info(self) -> InfoDict:
        return {**self._get_info(), "seed": self._seed}
