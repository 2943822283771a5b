"""From an action (n, 4) to joint and gripper targets, `ctrl` (n, 8).

The action is a displacement of the tool centre point (5 cm per control step at 1) and a movement of
the fingers (+1 opens, -1 closes them fully in one step). The hand keeps pointing straight down. The
joints' own position servos follow the targets; how far the hand gets within one control step is
physics.

A displacement is measured from where the hand is, plus what was left of the last one up to
`CARRY` metres: so a zero action holds still under load instead of sagging, and an obstacle cannot
wind the target up.
"""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError, unknown_name
from simscaleai.sim.arrays import Array, array_namespace, clip
from simscaleai.sim.names import check_names
from simscaleai.sim.physics import EnvIds, Sim
from simscaleai.sim.robots import kinematics, panda

MAX_DISPLACEMENT = 0.05  # m per control step at |action| = 1
CARRY = 0.005  # m
DAMPING = 0.05
POSTURE_GAIN = 0.1  # share of the way to the home posture per control step, in the null space
# What an error of 1 rad of the hand's orientation counts against 1 m of its position, by method. At the
# edge of reach the two compete, and a target there is worth a tilted hand.
ROTATION_WEIGHT = {"dls": 0.15, "jacobian_transpose": 0.3}
IK_METHODS = tuple(ROTATION_WEIGHT)
_POINTING_DOWN = np.array([1.0, 0, 0, 0, -1, 0, 0, 0, -1])


class EndEffectorController:
    """Moves the tool centre point of the Panda in `model`; `ik` is one of `IK_METHODS`."""

    action_dim = 4

    def __init__(self, model: mujoco.MjModel, control_dt: float, ik: str = "dls") -> None:
        if ik not in IK_METHODS:
            raise unknown_name("ik method", ik, IK_METHODS)
        self.ik = ik
        needs = {
            "hinge": panda.ARM_JOINTS,
            "slide": panda.FINGER_JOINTS,
            "joint servo": panda.ARM_JOINTS,
            "servo": (panda.GRIPPER_ACTUATOR,),
            "site": (panda.EE_SITE,),
        }
        remedy = 'write <include file="panda.xml"/> in it, or give those of your robot these names'
        check_names(model, "the Panda", needs, remedy)
        self.site = model.site(panda.EE_SITE).id
        self.joints = _consecutive([model.joint(name).id for name in panda.ARM_JOINTS], "joints")
        # hinges have one number each, so these follow each other as the joints do
        self.qpos, self.qvel = (
            slice(int(adr[self.joints.start]), int(adr[self.joints.start]) + 7)
            for adr in (model.jnt_qposadr, model.jnt_dofadr)
        )
        self.fingers = [int(model.joint(name).qposadr[0]) for name in panda.FINGER_JOINTS]
        self.ctrl = _consecutive([model.actuator(n).id for n in panda.ARM_JOINTS], "actuators")
        self.gripper = model.actuator(panda.GRIPPER_ACTUATOR).id
        self.low, self.high = self._ranges(model)
        self.max_step = np.array(panda.VELOCITY_LIMITS) * control_dt
        self.home = np.array(panda.HOME_ARM)
        self.workspace = np.array(panda.WORKSPACE_LOW), np.array(panda.WORKSPACE_HIGH)
        self.rotation_error = kinematics.rotation_error_map(_POINTING_DOWN)
        self.weights = np.array([1.0] * 3 + [ROTATION_WEIGHT[ik]] * 3)
        self.damping = DAMPING**2 * np.eye(6)

    def _ranges(self, model: mujoco.MjModel) -> NDArray[np.float64]:
        """Between which joint targets (2, 7) the servos may be sent: theirs, or that of the joint."""
        ranges = np.tile([[-np.inf], [np.inf]], 7)
        for limited, limits in (
            (model.jnt_limited[self.joints], model.jnt_range[self.joints]),
            (model.actuator_ctrllimited[self.ctrl], model.actuator_ctrlrange[self.ctrl]),
        ):
            ranges = np.where(limited, limits.T, ranges)
        return ranges

    def reset(self, sim: Sim, rows: EnvIds) -> None:
        """Start from where the hand of `rows` is, holding still."""
        sim.ctrl[rows, self.ctrl] = sim.qpos[rows, self.qpos]
        sim.ctrl[rows, self.gripper] = sim.qpos[rows, self.fingers[0]]
        setpoint = sim.task_state.setdefault("setpoint", np.zeros((sim.n, 3)))
        setpoint[rows] = sim.site_xpos[rows, self.site]

    def apply(self, sim: Sim, action: NDArray[np.float64], rows: EnvIds | None = None) -> None:
        """Write `sim.ctrl` for actions (n, 4) in [-1, 1]; rows left out keep theirs."""
        setpoint, ctrl = self.targets(
            action,
            sim.task_state["setpoint"],
            sim.qpos[:, self.qpos],
            sim.site_xpos[:, self.site],
            sim.site_xmat[:, self.site],
            sim.xaxis[:, self.joints],
            sim.xanchor[:, self.joints],
        )
        fingers = sim.ctrl[:, self.gripper] + panda.FINGER_TRAVEL * action[:, 3]
        fingers = clip(fingers, 0.0, panda.FINGER_TRAVEL)
        if rows is None:
            sim.task_state["setpoint"][:] = setpoint
            sim.ctrl[:, self.ctrl] = ctrl
            sim.ctrl[:, self.gripper] = fingers
        else:
            sim.task_state["setpoint"][rows] = setpoint[rows]
            sim.ctrl[rows, self.ctrl] = ctrl[rows]
            sim.ctrl[rows, self.gripper] = fingers[rows]

    def targets(
        self,
        action: Array,
        setpoint: Array,
        q: Array,
        position: Array,
        xmat: Array,
        axes: Array,
        anchors: Array,
    ) -> tuple[Array, Array]:
        """The new setpoint (n, 3) and arm joint targets (n, 7); all arguments lead with n."""
        xp = array_namespace(q)
        left = clip(setpoint - position, -CARRY, CARRY)
        setpoint = position + left + MAX_DISPLACEMENT * action[:, :3]
        setpoint = clip(setpoint, *self.workspace)
        # one product per row: the result must not depend on n
        rotation = (xmat[:, None, :] @ self.rotation_error)[:, 0]
        error = xp.concat((setpoint - position, rotation), axis=-1)
        posture = POSTURE_GAIN * (self.home - q)
        jacobian_t = kinematics.geometric_jacobian(axes, anchors, position)
        jacobian_t, error = jacobian_t * self.weights, error * self.weights
        if self.ik == "dls":
            step = kinematics.damped_least_squares(jacobian_t, error, posture, self.damping)
        else:
            step = kinematics.jacobian_transpose(jacobian_t, error)
        # all joints slow down together, so that the hand keeps its direction
        excess = (abs(step) / self.max_step).max(axis=-1, keepdims=True)
        return setpoint, clip(q + step / xp.maximum(excess, 1.0), self.low, self.high)


def _consecutive(ids: list[int], what: str) -> slice:
    """The ids as a slice, which is cheaper than a list; UserError if they do not follow each other."""
    if ids != list(range(ids[0], ids[0] + len(ids))):
        raise UserError(
            f"The {what} {panda.ARM_JOINTS[0]} to {panda.ARM_JOINTS[-1]} must follow each other in the"
            " scene; put them in this order, with no other between them."
        )
    return slice(ids[0], ids[0] + len(ids))
