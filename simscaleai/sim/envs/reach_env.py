"""Reach task as a single environment."""

from __future__ import annotations

from simscaleai.sim.task_env import TaskEnv
from simscaleai.sim.tasks.reach import Reach


class ReachEnv(TaskEnv):
    """Bring the tool center point to a target in the air; see `sim.tasks.reach`."""

    task_class = Reach
