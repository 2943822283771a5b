"""A robot as a value: an MJCF, and what tasks and controllers must know of the arm in it.

    MY_ARM = Robot(
        name="my_arm", mjcf="/home/me/my_arm.xml", arm_joints=("a1", "a2", ...), ...
    )
    register_robot(MY_ARM)
    env = make_env("reach", robot="my_arm")

The MJCF has the robot alone. It is attached to a scene when the scene is loaded, at the scene's body "robot",
or at the world's origin where there is none. Nothing outside this folder knows a joint by name, or how many
there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError
from simscaleai.registry import Registry
from simscaleai.sim.parameters import Parameter, arm_parameters

ASSETS = Path(__file__).parent.parent / "assets"
Vector = tuple[float, float, float]
PADS = ("left_pad", "right_pad")
"""Roles of the geoms that touch what is held."""


@dataclass(frozen=True)
class Gripper:
    """A gripper with two fingers that move alike.

    Attributes:
      joints: of the two fingers.
      actuator: a position servo of both.
      joint_closed, joint_open: where the joints are, m or rad.
      ctrl_closed, ctrl_open: the actuator's control there, in its own unit.
      travel: how far each finger moves from closed to open, m.
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
    """An arm with a gripper; see the module docstring.

    Attributes:
      name: as in `SimConfig.robot`.
      mjcf: the file, or its name under `sim/assets`.
      arm_joints: hinges from base to hand. They follow each other in the MJCF, as do their actuators.
      gripper: its gripper.
      ee_site: a site between the fingertips: z points out of the hand, the fingers close along y.
      home: joint angles at which tasks start, rad, the site pointing straight down.
      velocity_limits: of the joints, rad/s.
      workspace: lowest and highest place that the site may be sent to, m, world frame.
      arm_actuators: position servos of `arm_joints`; by default they are called as the joints.
      ee_body: where the MJCF has no such site: the body that gets one, at `ee_pos` (m) and `ee_quat` (w
        first).
      geoms: {role: name} of geoms that scenes mention: "left_pad" and "right_pad", which touch what is held.
        By default a role is a name.
      poses: further joint angles by name, rad, which a task may ask for.
      tasks: names of tasks that it is tested on.
      randomization: what varies of it; by default damping, servo stiffness and start of the arm.
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

    @property
    def path(self) -> Path:
        """Where its MJCF is."""
        return ASSETS / self.mjcf

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What varies of it under domain randomization."""
        return self.randomization or ()

    def names(self) -> set[tuple[str, str]]:
        """(kind, name) of everything a controller needs; a scene that has any of it has the robot."""
        joints = {("joint", name) for name in (*self.arm_joints, *self.gripper.joints)}
        actuators = {("actuator", name) for name in (*self.arm_actuators, self.gripper.actuator)}
        return joints | actuators | {("site", self.ee_site)}

    def pose(self, name: str = "home") -> NDArray[np.float64]:
        """Joint angles by name, rad, (j,); UserError for a pose that this robot does not have."""
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
    """Make `robot` known by its name; UserError if another one has it."""
    if robot.name not in _ROBOTS:
        _ROBOTS.register(robot.name, robot)
    elif (
        _ROBOTS.get(robot.name) != robot
    ):  # the same again is harmless: a module may be imported twice
        raise UserError(f"The robot name {robot.name!r} is taken; choose another name.")


def find_robot(name: str) -> Robot:
    """Return the robot of this name; UserError lists the known ones."""
    return _ROBOTS.get(name)


def list_robots() -> list[str]:
    """All robot names, sorted."""
    return _ROBOTS.names()


def added_robots() -> dict[str, Robot]:
    """{name: robot} of robots that are not built in."""
    return _ROBOTS.added()
