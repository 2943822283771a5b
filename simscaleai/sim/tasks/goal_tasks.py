"""Goal-conditioned forms of our tasks; see `sim.goals`."""

from __future__ import annotations

from typing import ClassVar

from simscaleai.sim.arrays import Array, columns, norm, number
from simscaleai.sim.goals import GoalConditioned
from simscaleai.sim.physics import Sim
from simscaleai.sim.tasks.pick_place import THRESHOLD, PickPlace
from simscaleai.sim.tasks.reach import Reach


class ReachGoal(GoalConditioned, Reach):
    """`Reach`; a goal is a position of the tool center point, (3,) m."""

    name = "reach_goal"
    goal_keys: ClassVar[tuple[str, ...]] = ("target_pos",)

    def goals(self, sim: Sim) -> tuple[Array, Array]:
        return sim.site_xpos[:, self.controller.site, :], self.goal(sim)

    def reached(self, achieved: Array, desired: Array) -> Array:
        return norm(achieved - desired) < self.threshold


class PickPlaceGoal(GoalConditioned, PickPlace):
    """`PickPlace`; a goal is a position of the cube, m, and whether it has been lifted, (4,)."""

    name = "pick_place_goal"
    goal_keys: ClassVar[tuple[str, ...]] = ("target_pos",)

    def goals(self, sim: Sim) -> tuple[Array, Array]:
        xp, target = sim.xp, sim.mocap_pos[:, self.target, :]
        one = xp.ones_like(target[:, 0])
        # before the first reset there is no task state
        lifted = (
            number(sim.task_state["lifted"]) if "lifted" in sim.task_state else xp.zeros_like(one)
        )
        return columns(self.cube(sim), lifted), columns(target, one)

    def reached(self, achieved: Array, desired: Array) -> Array:
        # leading axes (...): callers relabel whole batches of goals
        near = norm(achieved[..., :3] - desired[..., :3]) < THRESHOLD
        return near & (achieved[..., 3] >= desired[..., 3])
