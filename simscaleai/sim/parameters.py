"""Declarations of domain randomization: which field varies, of which elements, how far.

A robot declares what varies of it (`Robot.randomization`), a task its objects (`Task.randomization`), and
the room its lights and table (`SCENE`). `sim.randomization` draws and applies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Selection(Enum):
    """Elements by what they are, in place of names; a scene may have none of them.

    Attributes:
      ALL: every one of the model.
      OBJECTS: bodies that can move and are no part of the robot, and their geoms.
    """

    ALL = "all"
    OBJECTS = "objects"


@dataclass(frozen=True)
class GeomsOf:
    """All geoms of the named bodies."""

    bodies: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """Elements that a draw changes.

    Attributes:
      field: an MjModel field that the batch can hold per simulation, or "qpos".
      names: of the bodies, geoms, joints, ... that the field is about (for "qpos", also of a body with a free
        joint), or a selection of them. The model must have every name.
      columns: which columns of their values; all by default. For qpos: offsets into the joint's numbers.
      power: a scaling draw acts as (1 + draw) ** power.
      optional: whether a scene may lack the names.
    """

    field: str
    names: tuple[str, ...] | GeomsOf | Selection
    columns: tuple[int, ...] | None = None
    power: int = 1
    optional: bool = False


@dataclass(frozen=True)
class Parameter:
    """One uniform draw from [-width, width]: "scale" multiplies by 1 + draw, "add" adds it.

    An adding draw has one number per column of its target, in the field's unit; a scaling one is a
    single number.
    """

    name: str
    mode: str
    width: tuple[float, ...]
    targets: tuple[Target, ...]


ALL, OBJECTS = Selection.ALL, Selection.OBJECTS
RGB = (0, 1, 2)

LIGHTS = (
    Parameter("light_brightness", "scale", (0.3,), (Target("light_diffuse", ALL),)),
    Parameter("light_position", "add", (0.3, 0.3, 0.2), (Target("light_pos", ALL),)),  # m
)

SCENE = (
    *LIGHTS,
    Parameter(
        "table_colour", "add", (0.15,) * 3, (Target("mat_rgba", ("table",), RGB, optional=True),)
    ),
)
"""What varies in a room: all its lights, and the material "table" where there is one."""

ANY_MODEL = (
    *LIGHTS,
    Parameter(
        "friction",
        "scale",
        (0.3,),
        (Target("pair_friction", ALL, (0, 1)), Target("geom_friction", ALL, (0,))),
    ),
)
"""What can vary in whatever model, its robot and objects unknown."""


def object_parameters(bodies: Sequence[str] = ()) -> tuple[Parameter, ...]:
    """Return what varies of things that can move: looks, friction and mass; size and place of `bodies`.

    Args:
      bodies: names of bodies with a free joint that start at rest on the table, z = 0.
    """
    names = tuple(bodies)
    found = (
        Parameter("object_colour", "add", (0.15,) * 3, (Target("geom_rgba", OBJECTS, RGB),)),
        Parameter(
            "friction",
            "scale",
            (0.3,),
            (
                Target("pair_friction", ALL, (0, 1)),  # both tangential directions
                Target("geom_friction", OBJECTS, (0,)),
            ),
        ),
        Parameter(
            "object_mass",
            "scale",
            (0.4,),
            (Target("body_mass", OBJECTS), Target("body_inertia", OBJECTS)),
        ),
    )
    if not names:
        return found
    return (
        *found,
        # at constant mass inertia goes with the square; the object rests at half its height
        Parameter(
            "object_size",
            "scale",
            (0.08,),
            (
                Target("geom_size", GeomsOf(names)),
                Target("body_inertia", names, power=2),
                Target("qpos", names, (2,)),
            ),
        ),
        Parameter("object_position", "add", (0.02, 0.02), (Target("qpos", names, (0, 1)),)),  # m
    )


def arm_parameters(joints: Sequence[str], actuators: Sequence[str]) -> tuple[Parameter, ...]:
    """Return what varies of an arm: damping and start of its joints, stiffness of its position servos."""
    joints, actuators = tuple(joints), tuple(actuators)
    return (
        Parameter("joint_damping", "scale", (0.4,), (Target("dof_damping", joints),)),
        # a servo's gain and bias are the same number; its damping stays
        Parameter(
            "actuator_gain",
            "scale",
            (0.1,),
            (
                Target("actuator_gainprm", actuators, (0,)),
                Target("actuator_biasprm", actuators, (1,)),
            ),
        ),
        Parameter("arm_posture", "add", (0.03,), (Target("qpos", joints, (0,)),)),  # rad, all alike
    )
