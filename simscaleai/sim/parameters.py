"""Declarations of domain randomization: which field varies, of which elements, and how far.

A robot declares its own parameters (`Robot.randomization`), a task those of its objects
(`Task.randomization`), and `SCENE` those of lights and table. `sim.randomization` draws and applies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Selection(Enum):
    """Selection of elements by kind instead of by name; a scene may have none of them.

    Attributes:
      ALL: every one of the model.
      OBJECTS: movable bodies that are not part of the robot, and their geoms.
    """

    ALL = "all"
    OBJECTS = "objects"


@dataclass(frozen=True)
class GeomsOf:
    """Selection of all geoms of the named bodies."""

    bodies: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    """Elements that a draw changes.

    Attributes:
      field: an MjModel field that the batch can hold per simulation, or "qpos".
      names: names of the bodies, geoms, joints, ... that the field belongs to (for "qpos", joints or bodies
        with a free joint), or a selection of them. The model must have every name.
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
    """Parameter with a uniform draw from [-width, width]: "scale" multiplies by 1 + draw, "add" adds it.

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
        "table_color", "add", (0.15,) * 3, (Target("mat_rgba", ("table",), RGB, optional=True),)
    ),
)
"""Parameters of a scene: all its lights, and the material "table" if there is one."""

ANY_MODEL = (
    *LIGHTS,
    Parameter(
        "friction",
        "scale",
        (0.3,),
        (Target("pair_friction", ALL, (0, 1)), Target("geom_friction", ALL, (0,))),
    ),
)
"""Parameters of any model, whose robot and objects are unknown."""


def object_parameters(bodies: Sequence[str] = ()) -> tuple[Parameter, ...]:
    """Return the parameters of objects: color, friction and mass, and size and position of `bodies`.

    Args:
      bodies: names of bodies with a free joint that start at rest on the table, z = 0.
    """
    names = tuple(bodies)
    found = (
        Parameter("object_color", "add", (0.15,) * 3, (Target("geom_rgba", OBJECTS, RGB),)),
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
    """Return the parameters of an arm: damping and start of its joints, stiffness of its servos."""
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
