"""Pick-and-place task as a single environment."""

from __future__ import annotations

from simscaleai.sim.task_env import TaskEnv
from simscaleai.sim.tasks.pick_place import PickPlace


class PickPlaceEnv(TaskEnv):
    """Pick up a cube and bring it to a target; see `sim.tasks.pick_place`."""

    task_class = PickPlace
