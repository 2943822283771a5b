"""Where the parts of a robot are in a compiled model, and what its gripper does there."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError
from simscaleai.sim.arrays import Array
from simscaleai.sim.names import check_names
from simscaleai.sim.physics import Sim
from simscaleai.sim.robots.robot import Robot


class Arm:
    """`robot` in `model`, j joints.

    Attributes:
      site: index of the end effector's site in `site_xpos`.
      joints, ctrl: slices of the arm's joints and of its actuators.
      qpos, qvel: slices of the joints' numbers in `qpos` and `qvel`.
      fingers, gripper: indices of the fingers in `qpos`, and of the gripper's actuator in `ctrl`.
      low, high: joint targets that the servos may be sent to, (j,) rad.
      home: (j,) rad.
      workspace: lowest and highest place of the site, (3,) m each.

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
        # hinges have one number each, so these follow each other as the joints do
        self.qpos, self.qvel = (
            slice(int(adr[self.joints.start]), int(adr[self.joints.start]) + len(robot.arm_joints))
            for adr in (model.jnt_qposadr, model.jnt_dofadr)
        )
        self.fingers = [int(model.joint(name).qposadr[0]) for name in hand.joints]
        self._finger_dof = int(model.joint(hand.joints[0]).dofadr[0])
        self.gripper = model.actuator(hand.actuator).id
        self.low, self.high = self._ranges(model)
        self.home = np.array(robot.home)
        self.workspace = np.array(robot.workspace[0]), np.array(robot.workspace[1])
        # m of a finger per unit of joint and of control, positive towards open
        self._joint_scale = hand.travel / (hand.joint_open - hand.joint_closed)
        self._ctrl_scale = hand.travel / (hand.ctrl_open - hand.ctrl_closed)

    def _ranges(self, model: mujoco.MjModel) -> NDArray[np.float64]:
        """Joint targets (2, j) that the servos may be sent to: their range, or that of the joint."""
        ranges = np.tile([[-np.inf], [np.inf]], len(self.robot.arm_joints))
        for limited, limits in (
            (model.jnt_limited[self.joints], model.jnt_range[self.joints]),
            (model.actuator_ctrllimited[self.ctrl], model.actuator_ctrlrange[self.ctrl]),
        ):
            ranges = np.where(limited, limits.T, ranges)
        return ranges

    # the gripper, in metres: 0 closed

    def opening(self, sim: Sim) -> Array:
        """Distance between the fingers, (n,) m."""
        left, right = self.fingers
        return self._finger(sim.qpos[:, left]) + self._finger(sim.qpos[:, right])

    def squeeze(self, sim: Sim) -> Array:
        """How much further in the first finger is sent than it is, (n,) m."""
        closed = self.robot.gripper.ctrl_closed
        commanded = _scaled(sim.ctrl[:, self.gripper], closed, self._ctrl_scale)
        return self._finger(sim.qpos[:, self.fingers[0]]) - commanded

    def finger_speed(self, sim: Sim) -> Array:
        """Speed of the first finger, (n,) m/s, positive while it opens."""
        return _scaled(sim.qvel[:, self._finger_dof], 0.0, self._joint_scale)

    def gripper_ctrl(self, qpos: Array) -> Array:
        """Control (n,) that keeps the gripper where it is at `qpos` (n, nq)."""
        hand = self.robot.gripper
        return hand.ctrl_closed + self._finger(qpos[:, self.fingers[0]]) / self._ctrl_scale

    def _finger(self, qpos: Array) -> Array:
        """How far a finger is open, (n,) m, at its joint position (n,)."""
        return _scaled(qpos, self.robot.gripper.joint_closed, self._joint_scale)

    def start(self, model: mujoco.MjModel, pose: str = "home") -> NDArray[np.float64]:
        """qpos (nq,) with the arm in a pose of the robot and the gripper open, all else as in the scene."""
        qpos: NDArray[np.float64] = model.qpos0.copy()
        qpos[self.qpos] = self.robot.pose(pose)
        qpos[self.fingers] = self.robot.gripper.joint_open
        return qpos


def _check(model: mujoco.MjModel, robot: Robot) -> None:
    """UserError if `model` lacks what `robot` declares."""
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
    for joint, actuator in zip(robot.arm_joints, robot.arm_actuators, strict=True):
        if int(model.actuator(actuator).trnid[0]) != model.joint(joint).id:
            raise UserError(
                f"The actuator {actuator!r} of the robot {robot.name!r} does not move the joint {joint!r};"
                " give arm_actuators in the order of arm_joints."
            )


def _consecutive(names: Sequence[str], ids: list[int]) -> slice:
    """The ids as a slice, which is cheaper than a list; UserError if they do not follow each other."""
    if ids != list(range(ids[0], ids[0] + len(ids))):
        raise UserError(
            f"{names[0]} to {names[-1]} must follow each other in the scene; put them in this order, with no"
            " other between them."
        )
    return slice(ids[0], ids[0] + len(ids))


def _scaled(values: Array, zero: float, scale: float) -> Array:
    """Return (values - zero) * scale; most grippers count in metres, and nothing is computed for them."""
    return values if zero == 0.0 and scale == 1.0 else (values - zero) * scale
