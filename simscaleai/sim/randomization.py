"""Domain randomization as data: which parameter, in which way, how far.

A `Parameter` is one draw per episode, and its `Target`s are where that draw goes: fields of the model,
per simulation, or `qpos`, the initial state. `Randomizer` turns uniform numbers that come from
outside into draws, writes every field as its nominal value changed by the draws of this episode
(never by those of the one before), and returns what it drew.

Trap: making a `Randomizer` gives every simulation its own copy of the fields it changes. "Off" is not
making one, and leaves the model shared and untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import unknown_name
from simscaleai.sim.physics import EnvIds, Sim
from simscaleai.sim.robots import panda


class Selection(Enum):
    """Elements by what they are, in place of names.

    Attributes:
      ALL: every one of the model.
      OBJECTS: bodies that can move and are no part of the robot, and their geoms.
    """

    ALL = "all"
    OBJECTS = "objects"


LEVELS = {"light": 0.5, "default": 1.0, "heavy": 2.0}
"""Each level's ranges as a multiple of the widths in `PARAMETERS`."""


@dataclass(frozen=True)
class Target:
    """Elements that a draw changes.

    Attributes:
      field: an MjModel field that the batch can hold per simulation, or "qpos".
      names: of the bodies, geoms, ... that the field is about, or a selection of them; the scene may lack
        some or all.
      columns: which columns of those rows; all by default. For qpos: offsets into the joint's numbers.
      power: a scaling draw acts as (1 + draw) ** power.
    """

    field: str
    names: tuple[str, ...] | Selection
    columns: tuple[int, ...] | None = None
    power: int = 1


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
OBJECT = ("object", "red_cube", "green_cube", "blue_cube")  # bodies, geoms and joints alike
SPHERES = ("red_sphere", "green_sphere", "blue_sphere")
RGB = (0, 1, 2)
ARM = panda.ARM_JOINTS

LIGHTS = (
    Parameter("light_brightness", "scale", (0.3,), (Target("light_diffuse", ALL),)),
    Parameter("light_position", "add", (0.3, 0.3, 0.2), (Target("light_pos", ALL),)),  # m
)

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

PARAMETERS = (
    *LIGHTS,
    Parameter(
        "object_colour",
        "add",
        (0.15,) * 3,
        (Target("geom_rgba", OBJECTS, RGB), Target("geom_rgba", SPHERES, RGB)),
    ),
    Parameter("table_colour", "add", (0.15,) * 3, (Target("mat_rgba", ("table",), RGB),)),
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
    Parameter("joint_damping", "scale", (0.4,), (Target("dof_damping", ARM),)),
    # stiffness of the position servos: gain and bias are the same number; their damping stays
    Parameter(
        "actuator_gain",
        "scale",
        (0.1,),
        (Target("actuator_gainprm", ARM, (0,)), Target("actuator_biasprm", ARM, (1,))),
    ),
    # at constant mass inertia goes with the square; the object rests at half its height
    Parameter(
        "object_size",
        "scale",
        (0.08,),
        (
            Target("geom_size", OBJECT),
            Target("body_inertia", OBJECT, power=2),
            Target("qpos", OBJECT, (2,)),
        ),
    ),
    Parameter("object_position", "add", (0.02, 0.02), (Target("qpos", OBJECT, (0, 1)),)),  # m
    Parameter("arm_posture", "add", (0.03,), (Target("qpos", ARM, (0,)),)),  # rad, all joints alike
)

"""What can vary in a scene with the robot of our tasks."""

# mj_setConst derives inverse weights and bounding volumes from these
_CONSTANT_INPUTS = {"body_mass", "body_inertia", "geom_size"}
_LOOKS = {"geom_rgba", "mat_rgba", "light_diffuse", "light_pos"}
# MjModel's accessor for the names that a field's prefix stands for
_ACCESSORS = {
    "actuator": "actuator",
    "body": "body",
    "dof": "joint",
    "geom": "geom",
    "light": "light",
    "mat": "mat",
    "pair": "pair",
    "qpos": "joint",
}


class Randomizer:
    """Draws and applies those of `parameters` that the scene of `sim` has, at `level`."""

    def __init__(
        self, sim: Sim, level: str = "default", parameters: Sequence[Parameter] = PARAMETERS
    ) -> None:
        if level not in LEVELS:
            raise unknown_name("randomization level", level, LEVELS)
        self.sim = sim
        self.parameters: list[tuple[Parameter, list[tuple[Target, NDArray[np.intp]]]]] = []
        for parameter in parameters:
            found = [(t, _indices(sim.model, t)) for t in parameter.targets]
            found = [(t, ids) for t, ids in found if len(ids)]
            if found:
                self.parameters.append((parameter, found))
        widths = [width for p, _ in self.parameters for width in p.width]
        self.widths = LEVELS[level] * np.array(widths)
        fields = {t.field for _, found in self.parameters for t, _ in found} - {"qpos"}
        self.values = {field: sim.parameter(field) for field in sorted(fields)}
        self.nominal = {field: values[0].copy() for field, values in self.values.items()}
        self.constants = bool(fields & _CONSTANT_INPUTS)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "values": list(self.values)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.values = {field: self.sim.parameter(field) for field in state["values"]}

    @property
    def looks(self) -> list[str]:
        """The parameters that change nothing but how things look."""
        return [p.name for p, f in self.parameters if {t.field for t, _ in f} <= _LOOKS]

    @property
    def num_uniforms(self) -> int:
        """How many uniform numbers one episode's draws take."""
        return len(self.widths)

    def draw(self, u: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Draws {parameter: (k, d)} for uniform numbers (k, num_uniforms) in [0, 1)."""
        flat = (2 * u - 1) * self.widths
        draws, start = {}, 0
        for parameter, _ in self.parameters:
            stop = start + len(parameter.width)
            draws[parameter.name] = flat[:, start:stop]
            start = stop
        return draws

    def apply_to_model(self, rows: EnvIds, draws: dict[str, NDArray[np.float64]]) -> None:
        """Give `rows` (k,) the model of their draws; reset them afterwards."""
        for field, values in self.values.items():
            values[rows] = self.nominal[field]
        for parameter, found in self.parameters:
            for target, ids in found:
                if target.field != "qpos":
                    _change(self.values[target.field], rows, ids, parameter, target, draws)
        for field in self.values.keys() & {"geom_rgba", "mat_rgba"}:
            self.values[field][rows] = np.clip(self.values[field][rows], 0.0, 1.0)
        if self.constants:
            self.sim.set_const(rows)

    def apply_to_state(self, rows: EnvIds, draws: dict[str, NDArray[np.float64]]) -> None:
        """Change the initial state of `rows` (k,), once it is written, by their draws."""
        qpos = self.sim.qpos[:, :, None]  # (n, nq, 1): one column per number
        for parameter, found in self.parameters:
            for target, ids in found:
                if target.field == "qpos":
                    _change(qpos, rows, ids, parameter, target, draws)


def _indices(model: mujoco.MjModel, target: Target) -> NDArray[np.intp]:
    """EnvIds of the target's field; for qpos, every number the target names."""
    if isinstance(target.names, Selection):
        return _selected(model, target.field, target.names)
    accessor = getattr(model, _ACCESSORS[target.field.split("_")[0]])
    ids: list[int] = []
    for name in target.names:
        try:
            item = accessor(name) if target.field != "qpos" else _joint(model, name)
        except KeyError:
            continue
        if target.field == "qpos":
            assert target.columns is not None
            ids += [int(item.qposadr[0]) + c for c in target.columns]
        else:
            ids.append(int(item.dofadr[0]) if target.field.startswith("dof") else int(item.id))
    return np.array(ids, dtype=np.intp)


def _joint(model: mujoco.MjModel, name: str) -> Any:
    """The joint of this name, or the free joint, which needs no name, of the body; else KeyError."""
    if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name) < 0:
        first = int(model.body(name).jntadr[0])
        if first >= 0 and model.jnt_type[first] == mujoco.mjtJoint.mjJNT_FREE:
            return model.joint(first)
    return model.joint(name)


def _selected(model: mujoco.MjModel, field: str, selection: Selection) -> NDArray[np.intp]:
    """EnvIds of a field of all elements, or of bodies or geoms, of a selection."""
    if selection is Selection.ALL:
        return np.arange(len(getattr(model, field)))
    arm = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, ARM[0])
    robot = model.body_treeid[model.jnt_bodyid[arm]] if arm >= 0 else -1
    objects = (model.body_treeid >= 0) & (model.body_treeid != robot)
    return np.flatnonzero(objects if field.startswith("body") else objects[model.geom_bodyid])


def _change(
    values: NDArray[Any],
    rows: EnvIds,
    ids: NDArray[np.intp],
    parameter: Parameter,
    target: Target,
    draws: dict[str, NDArray[np.float64]],
) -> None:
    """Apply one parameter's draw to the target's elements of values (n, m, c) or (n, m), in place."""
    draw = draws[parameter.name]
    if values.ndim == 2:
        values = values[:, :, None]
    old = values[rows[:, None], ids]  # (k, len(ids), c), a copy
    whole = target.columns is None or target.field == "qpos"
    columns: Any = slice(None) if whole else list(target.columns or ())
    if parameter.mode == "scale":
        old[..., columns] *= ((1 + draw) ** target.power)[:, None, :]
    elif target.field == "qpos":
        # one draw for each number, or one for all; of several joints, each gets the same
        old += np.tile(draw, len(ids) // draw.shape[1])[:, :, None]
    else:
        old[..., columns] += draw[:, None, :]
    values[rows[:, None], ids] = old
