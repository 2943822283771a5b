"""Goal-conditioned forms of tasks, for algorithms such as hindsight experience replay (HER).

    env = make_env("reach_goal", cameras=[])
    obs, _ = env.reset(seed=0)               # {"observation", "achieved_goal", "desired_goal"}
    env.compute_reward(obs["achieved_goal"], obs["desired_goal"], {})     # -1.0: it is not reached

The layout of observations and `compute_reward` are those of Gymnasium-Robotics' `GoalEnv`. The reward is -1
at every step and 0 at the step that reaches the goal, which ends the episode. It is a function of the two
goals alone, so that an algorithm may replace the desired goal by another one.

A class that defines the goals gives a task of your own this form:

    class PushGoal(GoalConditioned, Push):
        name = "push_goal"
        goal_keys = ("target_pos",)

        def goals(self, sim):
            return sim.qpos[:, self.puck], sim.mocap_pos[:, self.target]

        def reached(self, achieved, desired):
            return norm(achieved - desired) < 0.03
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import array_api_compat
import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import BoolArray
from simscaleai.errors import UserError
from simscaleai.policy import Policy
from simscaleai.sim.arrays import Array, array_namespace, float32, number
from simscaleai.sim.physics import Sim
from simscaleai.sim.task import Task


class GoalConditioned(Task):
    """Mixed in before a `Task`; see the module docstring.

    Attributes:
      goal_keys: the keys of the task's observation that contain the goal. The desired goal begins with their
        values, in this order. "observation" leaves them out, since they are wrong for another goal.
    """

    goal_keys: ClassVar[tuple[str, ...]]
    reward_weights = {"time": 1.0, "success": 1.0}

    @abstractmethod
    def goals(self, sim: Sim) -> tuple[Array, Array]:
        """Return the achieved and the desired goals, (n, g) each."""

    @abstractmethod
    def reached(self, achieved: Array, desired: Array) -> Array:
        """Return whether achieved goals (..., g), float32, fulfil the desired ones: (...) bool."""

    def observe(self, sim: Sim) -> dict[str, Array]:
        obs = super().observe(sim)  # type: ignore[safe-super]  # the task that this is mixed into
        self._shapes = {key: obs[key].shape[1:] for key in sorted(obs)}
        rest = [
            sim.xp.reshape(obs[key], (sim.n, -1))
            for key in self._shapes
            if key not in self.goal_keys
        ]
        achieved, desired = self._goals(sim)
        return {
            "observation": sim.xp.concat(rest, axis=1),
            "achieved_goal": achieved,
            "desired_goal": desired,
        }

    def info(self, sim: Sim) -> dict[str, Array]:
        # of the goals as they are observed, so that reward and success agree to the last bit
        measured = super().info(sim)  # type: ignore[safe-super]
        return {**measured, "success": self.reached(*self._goals(sim))}

    def reward_terms(self, info: Mapping[str, Array], action: Array) -> dict[str, Array]:
        success = number(info["success"])
        return {"time": success * 0.0 - 1.0, "success": success}

    def compute_reward(
        self, achieved_goal: Array, desired_goal: Array, info: object = None
    ) -> Array:
        """Return the reward of achieving one goal when another is desired, (...) for goals (..., g).

        Args:
          info: ignored; the interface of Gymnasium-Robotics has it.

        Raises:
          UserError: the environment has a reward of the caller's own.
        """
        if self._reward is not None:
            raise UserError(
                "compute_reward knows the task's own reward; make the environment without reward=."
            )
        success = self.reached(_float32(achieved_goal), _float32(desired_goal))
        if isinstance(success, np.bool_):  # goals (g,)
            success = np.asarray(success)
        return self.reward(self.reward_terms({"success": success}, None))

    def expert(self) -> Policy:
        return GoalExpert(super().expert(), self)  # type: ignore[safe-super]

    def task_observation(self, obs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the observation of the task without goals, from a goal-conditioned one (n, ...)."""
        found: dict[str, Array] = {}
        taken = {"observation": 0, "desired_goal": 0}
        for key in [k for k in self._shapes if k not in self.goal_keys] + list(self.goal_keys):
            source = "desired_goal" if key in self.goal_keys else "observation"
            shape, start = self._shapes[key], taken[source]
            taken[source] += math.prod(shape)
            numbers = obs[source][:, start : taken[source]]
            found[key] = array_namespace(numbers).reshape(numbers, (-1, *shape))
        return found

    def _goals(self, sim: Sim) -> tuple[Array, Array]:
        achieved, desired = self.goals(sim)
        return float32(achieved), float32(desired)


class GoalExpert:
    """Makes the expert of a task act on goal-conditioned observations."""

    def __init__(self, expert: Policy, task: GoalConditioned) -> None:
        self._expert, self._task = expert, task

    def reset(
        self,
        mask: BoolArray,
        seeds: Sequence[int],
        instructions: Sequence[str] | None = None,
    ) -> None:
        """Begin episodes in the envs of `mask`."""
        self._expert.reset(mask, seeds)

    def act(self, obs: Mapping[str, Array]) -> NDArray[np.float32]:
        return self._expert.act(self._task.task_observation(obs))


def _float32(goal: Array) -> Array:
    """Return a caller's goals, which may be lists, as a float32 array."""
    return float32(goal if array_api_compat.is_array_api_obj(goal) else np.array(goal))
