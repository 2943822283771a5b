"""A robot as a value: an MJCF file, and the names and numbers that tasks and controllers need.

    MY_ARM = Robot(
        name="my_arm", mjcf="/home/me/my_arm.xml", arm_joints=("a1", "a2", ...), ...
    )
    register_robot(MY_ARM)
    env = make_env("reach", robot="my_arm")

The MJCF contains only the robot. It is attached to a scene when the scene is loaded, at the scene's body
"robot", or at the world's origin if there is none. No code outside this folder knows the names or the number
of joints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from simscaleai.array_types import FloatArray
from simscaleai.errors import UserError
from simscaleai.registry import Registry
from simscaleai.sim.parameters import Parameter, arm_parameters

ASSETS = Path(__file__).parent.parent / "assets"
Vector = tuple[float, float, float]
PADS = ("left_pad", "right_pad")
"""Roles of the geoms that touch a grasped object."""


@dataclass(frozen=True)
class Gripper:
    """Gripper with two fingers that move symmetrically.

    Attributes:
      joints: names of the joints of the two fingers.
      actuator: name of the position servo that drives both.
      joint_closed, joint_open: joint positions, m or rad.
      ctrl_closed, ctrl_open: controls of the actuator at these positions, in its own unit.
      travel: travel of each finger from closed to open, m.
    """

    joints: tuple[str, str]
    actuator: str
    joint_closed: float
    joint_open: float
    ctrl_closed: float
    ctrl_open: float
    travel: float


@dataclass(frozen=True)
class Robot:
    """Arm with a gripper; see the module docstring.

    Attributes:
      name: value of `SimConfig.robot`.
      mjcf: path of the file, or its name under `sim/assets`.
      arm_joints: names of the hinges from base to hand, consecutive in the MJCF, as are their actuators.
      gripper: the gripper.
      ee_site: name of a site between the fingertips: z points out of the hand, the fingers close along y.
      home: joint angles at which tasks start, rad; the site points straight down.
      velocity_limits: of the arm joints, rad/s.
      workspace: lowest and highest target position of the site, m, world frame.
      arm_actuators: names of the position servos of `arm_joints`; by default those of the joints.
      ee_body: for an MJCF without such a site: name of the body to add it to, at `ee_pos` (m) and `ee_quat`
        (w first) in its frame.
      geoms: {role: name} of geoms that scenes refer to: "left_pad" and "right_pad", which touch a grasped
        object, and others. A role that is missing is itself the name.
      poses: {name: joint angles, rad} of further poses that tasks may ask for.
      tasks: names of the tasks that the robot is tested on.
      randomization: randomized parameters; by default damping, servo stiffness and start of the arm.
    """

    name: str
    mjcf: str | Path
    arm_joints: tuple[str, ...]
    gripper: Gripper
    ee_site: str
    home: tuple[float, ...]
    velocity_limits: tuple[float, ...]
    workspace: tuple[Vector, Vector]
    arm_actuators: tuple[str, ...] = ()
    ee_body: str = ""
    ee_pos: Vector = (0.0, 0.0, 0.0)
    ee_quat: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    geoms: Mapping[str, str] = field(default_factory=dict)
    poses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    randomization: tuple[Parameter, ...] | None = None

    def __post_init__(self) -> None:
        # a frozen dataclass sets the defaults that depend on other fields in this way
        if not self.arm_actuators:
            object.__setattr__(self, "arm_actuators", self.arm_joints)
        if self.randomization is None:
            declared = arm_parameters(self.arm_joints, self.arm_actuators)
            object.__setattr__(self, "randomization", declared)
        lengths = {
            "arm_actuators": self.arm_actuators,
            "home": self.home,
            "velocity_limits": self.velocity_limits,
            **{f"poses[{name!r}]": pose for name, pose in self.poses.items()},
        }
        for name, values in lengths.items():
            if len(values) != len(self.arm_joints):
                raise UserError(
                    f"The robot {self.name!r} has {len(self.arm_joints)} arm_joints and"
                    f" {len(values)} {name}; give one for each joint."
                )

    def __hash__(self) -> int:
        # mappings among the fields have no hash
        return hash(self.name)

    @property
    def path(self) -> Path:
        """Path of the MJCF file."""
        # an absolute `mjcf` replaces the folder
        return ASSETS / self.mjcf

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters that vary under domain randomization."""
        return self.randomization or ()

    def names(self) -> set[tuple[str, str]]:
        """Return (kind, name) of all elements that a controller needs.

        A scene with any of them is meant to contain the whole robot.
        """
        joints = {("joint", name) for name in (*self.arm_joints, *self.gripper.joints)}
        actuators = {("actuator", name) for name in (*self.arm_actuators, self.gripper.actuator)}
        return joints | actuators | {("site", self.ee_site)}

    def pose(self, name: str = "home") -> FloatArray:
        """Return the joint angles (j,) of a pose, rad; UserError if the robot has no such pose."""
        if name == "home":
            return np.array(self.home)
        if name not in self.poses:
            known = ", ".join(("home", *self.poses))
            raise UserError(
                f"The robot {self.name!r} has no pose {name!r}; it has {known}. Choose another robot for this"
                " task, or give the pose in Robot.poses."
            )
        return np.array(self.poses[name])


_ROBOTS: Registry[Robot] = Registry(
    "robot",
    {
        "panda": "simscaleai.sim.robots.panda:PANDA",
        "ur5e": "simscaleai.sim.robots.ur5e:UR5E",
    },
)


def register_robot(robot: Robot) -> None:
    """Register `robot` by its name; UserError if another robot has it."""
    if robot.name not in _ROBOTS:
        _ROBOTS.register(robot.name, robot)
    # an equal value is harmless: a module may be imported twice
    elif _ROBOTS.get(robot.name) != robot:
        raise UserError(f"The robot name {robot.name!r} is taken; choose another name.")


def find_robot(name: str) -> Robot:
    """Return the robot of this name; UserError lists the known ones."""
    return _ROBOTS.get(name)


def list_robots() -> list[str]:
    """Return all robot names, sorted."""
    return _ROBOTS.names()


def added_robots() -> dict[str, Robot]:
    """Return {name: robot} of robots that are not built in."""
    return _ROBOTS.added()
