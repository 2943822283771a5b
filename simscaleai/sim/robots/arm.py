"""Indices of a robot's joints, actuators and site in a compiled model, and the state of its gripper."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from simscaleai.array_types import FloatArray
from simscaleai.errors import UserError
from simscaleai.sim.arrays import Array
from simscaleai.sim.names import check_names
from simscaleai.sim.physics import Sim
from simscaleai.sim.robots.robot import Robot


class Arm:
    """Robot with j arm joints in `model`.

    Attributes:
      site: index of the end effector's site in `site_xpos`.
      joints, ctrl: slices of the arm's joints and of its actuators.
      qpos, qvel: slices of the arm joints in `qpos` and `qvel`.
      fingers, gripper: indices of the fingers in `qpos`, and of the gripper's actuator in `ctrl`.
      low, high: range of the joint targets, (j,) rad.
      home: (j,) rad.
      workspace: lowest and highest position of the site, (3,) m each, world frame.

    Raises:
      UserError: the model lacks something that the robot declares.
    """

    def __init__(self, model: mujoco.MjModel, robot: Robot) -> None:
        self.robot, hand = robot, robot.gripper
        _check(model, robot)
        self.site = model.site(robot.ee_site).id
        self.joints = _consecutive(robot.arm_joints, [model.joint(n).id for n in robot.arm_joints])
        self.ctrl = _consecutive(
            robot.arm_actuators, [model.actuator(n).id for n in robot.arm_actuators]
        )
        # A hinge has one position and one velocity, so slices of joints are slices of qpos and qvel, too.
        # Slices give views, where lists of indices would copy at every step.
        self.qpos, self.qvel = (
            slice(int(adr[self.joints.start]), int(adr[self.joints.start]) + len(robot.arm_joints))
            for adr in (model.jnt_qposadr, model.jnt_dofadr)
        )
        self.fingers = [int(model.joint(name).qposadr[0]) for name in hand.joints]
        self._finger_dof = int(model.joint(hand.joints[0]).dofadr[0])
        # one actuator drives both fingers
        self.gripper = model.actuator(hand.actuator).id
        self.low, self.high = self._ranges(model)
        self.home = np.array(robot.home)
        self.workspace = np.array(robot.workspace[0]), np.array(robot.workspace[1])
        # Grippers differ in the units of joints (m or rad) and controls (m, or 0..255), and in which end is
        # open. These scales convert both to the travel of a finger: m per unit, 0 closed.
        self._joint_scale = hand.travel / (hand.joint_open - hand.joint_closed)
        self._ctrl_scale = hand.travel / (hand.ctrl_open - hand.ctrl_closed)

    def _ranges(self, model: mujoco.MjModel) -> FloatArray:
        """Return the lowest and highest joint targets, (2, j) rad: of the servo, else of the joint."""
        ranges = np.tile([[-np.inf], [np.inf]], len(self.robot.arm_joints))
        # the later entry wins: a servo's own range is what MuJoCo clips its control to
        for limited, limits in (
            (model.jnt_limited[self.joints], model.jnt_range[self.joints]),
            (model.actuator_ctrllimited[self.ctrl], model.actuator_ctrlrange[self.ctrl]),
        ):
            ranges = np.where(limited, limits.T, ranges)
        return ranges

    # the gripper, in m: 0 is closed

    def opening(self, sim: Sim) -> Array:
        """Return the distance between the fingers, (n,) m."""
        left, right = self.fingers
        return self._finger(sim.qpos[:, left]) + self._finger(sim.qpos[:, right])

    def squeeze(self, sim: Sim) -> Array:
        """Return how much further in the first finger is commanded than it is, (n,) m.

        It is positive while the finger presses on something.
        """
        closed = self.robot.gripper.ctrl_closed
        commanded = _scaled(sim.ctrl[:, self.gripper], closed, self._ctrl_scale)
        return self._finger(sim.qpos[:, self.fingers[0]]) - commanded

    def finger_speed(self, sim: Sim) -> Array:
        """Return the speed of the first finger, (n,) m/s, positive while it opens."""
        return _scaled(sim.qvel[:, self._finger_dof], 0.0, self._joint_scale)

    def gripper_ctrl(self, qpos: Array) -> Array:
        """Return the control (n,) that keeps the gripper where it is at `qpos` (n, nq)."""
        hand = self.robot.gripper
        return hand.ctrl_closed + self._finger(qpos[:, self.fingers[0]]) / self._ctrl_scale

    def _finger(self, qpos: Array) -> Array:
        """Return how far a finger is open, (n,) m, from its joint position (n,)."""
        return _scaled(qpos, self.robot.gripper.joint_closed, self._joint_scale)

    def start(self, model: mujoco.MjModel, pose: str = "home") -> FloatArray:
        """Return qpos (nq,) with the arm in a pose and the gripper open; other joints as in the scene."""
        qpos: FloatArray = model.qpos0.copy()
        qpos[self.qpos] = self.robot.pose(pose)
        qpos[self.fingers] = self.robot.gripper.joint_open
        return qpos


def _check(model: mujoco.MjModel, robot: Robot) -> None:
    """Raise UserError if `model` lacks an element that `robot` declares."""
    same_names = robot.arm_actuators == robot.arm_joints
    hand = robot.gripper
    needs = {
        "hinge": robot.arm_joints,
        "finger": hand.joints,
        "joint servo" if same_names else "servo": robot.arm_actuators,
        "gripper servo": (hand.actuator,),
        "site": (robot.ee_site,),
    }
    remedy = "take the robot out of the scene, to which it is added, or give its parts these names"
    check_names(model, f"the robot {robot.name!r}", needs, remedy)
    # swapped servos would move the wrong joints without any error
    for joint, actuator in zip(robot.arm_joints, robot.arm_actuators, strict=True):
        if int(model.actuator(actuator).trnid[0]) != model.joint(joint).id:
            raise UserError(
                f"The actuator {actuator!r} of the robot {robot.name!r} does not move the joint {joint!r};"
                " give arm_actuators in the order of arm_joints."
            )


def _consecutive(names: Sequence[str], ids: list[int]) -> slice:
    """Return consecutive ids as a slice; UserError if they are not consecutive."""
    if ids != list(range(ids[0], ids[0] + len(ids))):
        raise UserError(
            f"{names[0]} to {names[-1]} must follow each other in the scene; put them in this order, with no"
            " other between them."
        )
    return slice(ids[0], ids[0] + len(ids))


def _scaled(values: Array, zero: float, scale: float) -> Array:
    """Return (values - zero) * scale; most grippers count in meters, and nothing is computed for them."""
    return values if zero == 0.0 and scale == 1.0 else (values - zero) * scale
