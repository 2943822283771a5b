"""The goal-conditioned forms of our tasks; see `sim.goals`."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from simscaleai.sim.arrays import Array, norm
from simscaleai.sim.goals import GoalConditioned
from simscaleai.sim.physics import Sim
from simscaleai.sim.tasks.pick_place import THRESHOLD, PickPlace
from simscaleai.sim.tasks.reach import Reach


class ReachGoal(GoalConditioned, Reach):
    """`Reach`; a goal is a place of the tool center point, (3,) m."""

    name = "reach_goal"
    goal_keys: ClassVar[tuple[str, ...]] = ("target_pos",)

    def goals(self, sim: Sim) -> tuple[Array, Array]:
        return sim.site_xpos[:, self.controller.site], self.goal(sim)

    def reached(self, achieved: Array, desired: Array) -> Array:
        return norm(achieved - desired) < self.threshold


class PickPlaceGoal(GoalConditioned, PickPlace):
    """`PickPlace`; a goal is a place of the cube, m, and whether it has been lifted, (4,)."""

    name = "pick_place_goal"
    goal_keys: ClassVar[tuple[str, ...]] = ("target_pos",)

    def goals(self, sim: Sim) -> tuple[Array, Array]:
        lifted = sim.task_state.get(
            "lifted", np.zeros(sim.n)
        )  # before the first reset there is none
        target = sim.mocap_pos[:, self.target]
        return (
            np.column_stack((self.cube(sim), lifted)),
            np.column_stack((target, np.ones(sim.n))),
        )

    def reached(self, achieved: Array, desired: Array) -> Array:
        near = norm(achieved[..., :3] - desired[..., :3]) < THRESHOLD
        return near & (achieved[..., 3] >= desired[..., 3])
