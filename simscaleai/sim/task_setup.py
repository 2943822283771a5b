"""Make the task and the randomizer of an environment, single or vector, from its settings."""

from __future__ import annotations

import mujoco

from simscaleai.sim.base_env import SimConfig
from simscaleai.sim.physics import Sim
from simscaleai.sim.randomization import Randomizer
from simscaleai.sim.robots.controllers import make_controller
from simscaleai.sim.robots.robot import find_robot
from simscaleai.sim.task import Task


def make_task(task_class: type[Task], model: mujoco.MjModel, config: SimConfig) -> Task:
    """Make a task whose controller moves the configured robot in `model`."""
    robot = find_robot(config.robot)
    controller = make_controller(config.controller, model, robot, config.control_dt, config.ik)
    return task_class(model, controller)


def task_randomizer(task: Task, sim: Sim, level: str) -> Randomizer:
    """Make the randomizer of the parameters that scene, task and robot declare."""
    return Randomizer(sim, level, task.parameters, task.controller.robot.arm_joints[0])
