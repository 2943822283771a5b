"""Controllers by name: from actions (n, action_dim) in [-1, 1] to targets of the servos, `sim.ctrl`.

`EndEffectorController`: an action is a displacement of the tool center point (1 is 5 cm per control step) and
a movement of the fingers (+1 opens, -1 closes them fully in one step). The hand keeps pointing straight down.
Position servos follow the joint targets; how far the hand gets within one control step is physics.

A displacement starts from the present position of the hand, plus the remainder of the last displacement up to
`CARRY`. So a zero action holds the position under load instead of sagging, and an obstacle does not wind up
the target.

`JointController`: an action is a change of each joint's angle (1 is the velocity limit for one control step)
and the same movement of the fingers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import mujoco
import numpy as np

from simscaleai.array_types import EnvIds
from simscaleai.errors import unknown_name
from simscaleai.registry import Registry
from simscaleai.sim.arrays import Array, array_namespace, clip, columns, float32, largest, like
from simscaleai.sim.physics import Sim
from simscaleai.sim.robots import kinematics
from simscaleai.sim.robots.arm import Arm
from simscaleai.sim.robots.robot import Robot

MAX_DISPLACEMENT = 0.05  # m per control step at |action| = 1
CARRY = 0.005  # m, the largest remainder per axis
DAMPING = 0.05  # of damped least squares, in units of the weighted Jacobian
POSTURE_GAIN = 0.1  # fraction of the way to the home posture per control step, in the null space
# Weight of an orientation error of 1 rad against a position error of 1 m, by method. At the edge of reach the
# two compete, and the position matters more.
ROTATION_WEIGHT = {"dls": 0.15, "jacobian_transpose": 0.3}
IK_METHODS = tuple(ROTATION_WEIGHT)
_POINTING_DOWN = np.array([1.0, 0, 0, 0, -1, 0, 0, 0, -1])


class Controller(Arm, ABC):
    """Turns actions into controls of an arm; the last entry of an action moves the gripper.

    A subclass defines `apply`, `encode` and the attributes below; `register_controller` gives it a name.

    Args:
      model: the compiled scene with the robot.
      robot: the robot whose arm is controlled.
      control_dt: time between two actions, s.
      ik: inverse kinematics, one of `IK_METHODS`.

    Attributes:
      action_names: names of the entries of an action.
      action_units: meaning of 1, for each entry.
    """

    action_names: tuple[str, ...]
    action_units: tuple[str, ...]

    def __init__(
        self, model: mujoco.MjModel, robot: Robot, control_dt: float, ik: str = "dls"
    ) -> None:
        if ik not in IK_METHODS:
            raise unknown_name("ik method", ik, IK_METHODS)
        super().__init__(model, robot)
        self.ik = ik
        self.max_step = np.array(robot.velocity_limits) * control_dt  # (j,) rad
        self.rotation_error = kinematics.rotation_error_map(_POINTING_DOWN)
        # (6,) of translation and rotation
        self.weights = np.array([1.0] * 3 + [ROTATION_WEIGHT[ik]] * 3)
        self.damping = DAMPING**2 * np.eye(6)
        hand = robot.gripper
        self._grip = hand.ctrl_open - hand.ctrl_closed
        self._grip_range = sorted((hand.ctrl_closed, hand.ctrl_open))

    @abstractmethod
    def apply(self, sim: Sim, action: Array, env_ids: EnvIds | None = None) -> None:
        """Write `sim.ctrl` for actions (n, action_dim) in [-1, 1]; envs left out keep theirs."""

    @abstractmethod
    def encode(self, displacement: Array, gripper: Array | float = 0.0) -> Array:
        """Return the actions (n, action_dim), float32, that come closest to a displacement of the hand.

        Args:
          displacement: (n, 3) m, world frame.
          gripper: (n,) or one number; +1 opens, -1 closes.
        """

    @property
    def action_dim(self) -> int:
        """Number of entries of an action."""
        return len(self.action_names)

    def reset(self, sim: Sim, env_ids: EnvIds) -> None:
        """Hold the arms of `env_ids` where they are; called at the start of an episode."""
        sim.ctrl[env_ids, self.ctrl] = sim.qpos[env_ids, self.qpos]
        sim.ctrl[env_ids, self.gripper] = self.gripper_ctrl(sim.qpos[env_ids])

    def write(self, sim: Sim, targets: Array, gripper: Array, env_ids: EnvIds | None) -> None:
        """Write joint targets (n, j), rad, and move the finger targets by gripper (n,) times their travel."""
        fingers = clip(sim.ctrl[:, self.gripper] + self._grip * gripper, *self._grip_range)
        if env_ids is None:
            sim.ctrl[:, self.ctrl] = targets
            sim.ctrl[:, self.gripper] = fingers
        else:
            sim.ctrl[env_ids, self.ctrl] = targets[env_ids]
            sim.ctrl[env_ids, self.gripper] = fingers[env_ids]

    def joint_step(
        self, move: Array, q: Array, position: Array, xmat: Array, axes: Array, anchors: Array
    ) -> Array:
        """Return joint steps (n, j), rad, that move the hand by `move` (n, 3), m, within the velocity limits.

        `position` (n, 3) and `xmat` (n, 9) are those of the hand, `axes` and `anchors` (n, j, 3) those of
        the joints, in the world frame, at the joint angles `q` (n, j).
        """
        xp = array_namespace(q)
        home, weights, max_step = like(self.home, q), like(self.weights, q), like(self.max_step, q)
        # one product per env: the result must not depend on n
        rotation = (xmat[:, None, :] @ like(self.rotation_error, q))[:, 0, :]
        error = xp.concat((move, rotation), axis=-1)  # (n, 6)
        posture = POSTURE_GAIN * (home - q)
        jacobian_t = kinematics.geometric_jacobian(axes, anchors, position)  # (n, j, 6)
        # rows of the least-squares problem, weighted
        jacobian_t, error = jacobian_t * weights, error * weights
        if self.ik == "dls":
            damping = like(self.damping, q)
            step = kinematics.damped_least_squares(jacobian_t, error, posture, damping)
        else:
            step = kinematics.jacobian_transpose(jacobian_t, error)
        # all joints slow down together, so that the hand keeps its direction
        excess = largest(abs(step) / max_step)
        return step / xp.maximum(excess, 1.0)

    def pose(self, sim: Sim) -> tuple[Array, Array, Array, Array, Array]:
        """Return `q`, `position`, `xmat`, `axes` and `anchors` of the arm, as `joint_step` takes them."""
        return (
            sim.qpos[:, self.qpos],
            sim.site_xpos[:, self.site, :],
            sim.site_xmat[:, self.site, :],
            sim.xaxis[:, self.joints, :],
            sim.xanchor[:, self.joints, :],
        )


class EndEffectorController(Controller):
    """Moves the tool center point of `robot` in `model`; `ik` is one of `IK_METHODS`."""

    action_names = ("Δx", "Δy", "Δz", "gripper")
    action_units = ("1 is 5 cm", "1 is 5 cm", "1 is 5 cm", "1 opens, -1 closes")

    def reset(self, sim: Sim, env_ids: EnvIds) -> None:
        super().reset(sim, env_ids)
        setpoint = sim.task_state.setdefault("setpoint", np.zeros((sim.n, 3)))
        setpoint[env_ids] = sim.site_xpos[env_ids, self.site]

    def apply(self, sim: Sim, action: Array, env_ids: EnvIds | None = None) -> None:
        setpoint, targets = self.targets(action, sim.task_state["setpoint"], *self.pose(sim))
        if env_ids is None:
            sim.task_state["setpoint"][...] = setpoint
        else:
            sim.task_state["setpoint"][env_ids] = setpoint[env_ids]
        self.write(sim, targets, action[:, 3], env_ids)

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
        """Return the new setpoint (n, 3), m, and joint targets (n, j), rad; all arguments lead with n."""
        left = clip(setpoint - position, -CARRY, CARRY)
        # from the hand, not from the last setpoint, which an obstacle would let run away
        setpoint = position + left + MAX_DISPLACEMENT * action[:, :3]
        lowest, highest = self.workspace
        setpoint = clip(setpoint, like(lowest, q), like(highest, q))
        step = self.joint_step(setpoint - position, q, position, xmat, axes, anchors)
        return setpoint, clip(q + step, like(self.low, q), like(self.high, q))

    def encode(self, displacement: Array, gripper: Array | float = 0.0) -> Array:
        return _action(clip(displacement / MAX_DISPLACEMENT, -1.0, 1.0), gripper)


class JointController(Controller):
    """Turns each joint separately.

    Trap: `encode` solves the inverse kinematics at the present state of the environment that this controller
    belongs to, and so it is of no use for other environments.
    """

    def __init__(
        self, model: mujoco.MjModel, robot: Robot, control_dt: float, ik: str = "dls"
    ) -> None:
        super().__init__(model, robot, control_dt, ik)
        self.action_names = (*robot.arm_joints, "gripper")
        degrees = np.degrees(self.max_step)
        self.action_units = (*(f"1 is {angle:.3g}°" for angle in degrees), "1 opens, -1 closes")

    def reset(self, sim: Sim, env_ids: EnvIds) -> None:
        super().reset(sim, env_ids)
        self._sim = sim

    def apply(self, sim: Sim, action: Array, env_ids: EnvIds | None = None) -> None:
        # from the last target, so that a zero action holds still; servos lag by less than one step
        q, target = sim.qpos[:, self.qpos], sim.ctrl[:, self.ctrl]
        max_step = like(self.max_step, q)
        base = clip(target, q - max_step, q + max_step)
        targets = base + action[:, :-1] * max_step
        targets = clip(targets, like(self.low, q), like(self.high, q))
        self.write(sim, targets, action[:, -1], env_ids)

    def encode(self, displacement: Array, gripper: Array | float = 0.0) -> Array:
        xp, (q, *rest) = array_namespace(displacement), self.pose(self._sim)
        longest = largest(abs(displacement))
        scale = MAX_DISPLACEMENT / xp.maximum(longest, MAX_DISPLACEMENT)
        step = self.joint_step(displacement * scale, q, *rest)
        max_step = like(self.max_step, q)
        # of the last action, not yet executed
        left = clip(self._sim.ctrl[:, self.ctrl] - q, -max_step, max_step)
        return _action(clip((step - left) / max_step, -1.0, 1.0), gripper)


def _action(move: Array, gripper: Array | float) -> Array:
    """Return actions (n, d + 1), float32, from entries (n, d) and the gripper's, (n,) or one number."""
    xp, fingers = array_namespace(move), gripper
    if isinstance(gripper, int | float):
        fingers = xp.full_like(move[:, 0], gripper)
    return float32(columns(move, fingers))


_CONTROLLERS: Registry[type[Controller]] = Registry(
    "controller",
    {
        "end_effector": "simscaleai.sim.robots.controllers:EndEffectorController",
        "joint": "simscaleai.sim.robots.controllers:JointController",
    },
)


def register_controller(name: str, cls: type[Controller]) -> None:
    """Make the controller class `cls` known as `SimConfig.controller`; UserError if the name is taken."""
    _CONTROLLERS.register(name, cls)


def list_controllers() -> list[str]:
    """Return all controller names, sorted."""
    return _CONTROLLERS.names()


def added_controllers() -> dict[str, type[Controller]]:
    """Return {name: class} of controllers that are not built in."""
    return _CONTROLLERS.added()


def make_controller(
    name: str, model: mujoco.MjModel, robot: Robot, control_dt: float, ik: str
) -> Controller:
    """Make the controller of this name; UserError lists the known ones."""
    made: Controller = _CONTROLLERS.get(name)(model, robot, control_dt, ik)
    return made
