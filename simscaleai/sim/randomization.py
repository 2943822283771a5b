"""Domain randomization: draws, and the changes of models and initial states that they cause.

The parameters are declared as data, see `sim.parameters`. A `Randomizer` turns uniform numbers into draws and
writes every field as its nominal value changed by the draws of this episode, never by earlier draws.

Trap: making a `Randomizer` gives every env its own copy of the fields that it changes. To switch
randomization off, make none: the model then stays shared and unmodified.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import EnvIds, FloatArray
from simscaleai.errors import UserError, unknown_name
from simscaleai.sim.arrays import Array, like
from simscaleai.sim.parameters import GeomsOf, Parameter, Selection, Target
from simscaleai.sim.physics import Sim

LEVELS = {"light": 0.5, "default": 1.0, "heavy": 2.0}
"""{level: factor of the declared widths}."""

# mj_setConst derives inverse weights and bounding volumes from these
_CONSTANT_INPUTS = {"body_mass", "body_inertia", "geom_size"}
# fields without influence on physics
_VISUAL = {"geom_rgba", "mat_rgba", "light_diffuse", "light_pos"}
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
_OBJECTS = {"mat": "material"}  # where MuJoCo's enum has another word than its accessor


class Randomizer:
    """Draws and applies `parameters` at `level`; those that select nothing in the model are left out.

    Args:
      robot: name of a joint of the robot; the bodies of its tree are no objects.

    Raises:
      UserError: an unknown level, a parameter declared twice, or a name that the model does not have.
    """

    def __init__(
        self, sim: Sim, level: str, parameters: Sequence[Parameter], robot: str = ""
    ) -> None:
        if level not in LEVELS:
            raise unknown_name("randomization level", level, LEVELS)
        self.sim = sim
        self.parameters: list[tuple[Parameter, list[tuple[Target, NDArray[np.intp]]]]] = []
        for parameter in parameters:
            if any(parameter.name == known.name for known, _ in self.parameters):
                raise UserError(
                    f"The randomization parameter {parameter.name!r} is declared twice; rename one."
                )
            found = [(t, _indices(sim.model, t, parameter.name, robot)) for t in parameter.targets]
            # such as geom colors of objects, in a scene without any
            found = [(t, ids) for t, ids in found if len(ids)]
            if found:
                self.parameters.append((parameter, found))
        widths = [width for p, _ in self.parameters for width in p.width]
        self.widths = LEVELS[level] * np.array(widths)
        fields = {t.field for _, found in self.parameters for t, _ in found} - {"qpos"}
        # live arrays (n, ...), sorted so that the order does not depend on hashes
        self.values = {field: sim.parameter(field) for field in sorted(fields)}
        self.nominal = {field: values[0].copy() for field, values in self.values.items()}
        self.constants = bool(fields & _CONSTANT_INPUTS)

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "values": list(self.values)}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        # the names of the fields, whose arrays are those of the copied simulation
        self.values = {field: self.sim.parameter(field) for field in self.values}

    @property
    def visual_parameters(self) -> list[str]:
        """Names of the parameters that change only the appearance."""
        return [p.name for p, f in self.parameters if {t.field for t, _ in f} <= _VISUAL]

    @property
    def num_uniforms(self) -> int:
        """Number of uniform numbers for the draws of one episode."""
        return len(self.widths)

    def draw(self, u: Array) -> dict[str, Array]:
        """Return draws {parameter: (k, d)} for uniform numbers (k, num_uniforms) in [0, 1)."""
        flat = (2 * u - 1) * like(self.widths, u)  # (k, num_uniforms), in [-width, width)
        draws, start = {}, 0
        for parameter, _ in self.parameters:
            stop = start + len(parameter.width)
            draws[parameter.name] = flat[:, start:stop]
            start = stop
        return draws

    def apply_to_model(self, env_ids: EnvIds, draws: dict[str, FloatArray]) -> None:
        """Give `env_ids` (k,) the model of their draws; reset them afterwards."""
        # back to nominal first: several parameters may change the same field
        for field, values in self.values.items():
            values[env_ids] = self.nominal[field]
        for parameter, found in self.parameters:
            for target, ids in found:
                if target.field != "qpos":
                    _change(self.values[target.field], env_ids, ids, parameter, target, draws)
        for field in self.values.keys() & {"geom_rgba", "mat_rgba"}:
            self.values[field][env_ids] = np.clip(self.values[field][env_ids], 0.0, 1.0)
        if self.constants:
            self.sim.set_const(env_ids)

    def apply_to_state(self, env_ids: EnvIds, draws: dict[str, FloatArray]) -> None:
        """Change the initial state of `env_ids` (k,) by their draws; call once it is written."""
        qpos = self.sim.qpos[:, :, None]  # (n, nq, 1): one column per number
        for parameter, found in self.parameters:
            for target, ids in found:
                if target.field == "qpos":
                    _change(qpos, env_ids, ids, parameter, target, draws)


def _indices(model: mujoco.MjModel, target: Target, parameter: str, robot: str) -> NDArray[np.intp]:
    """Return indices of the target's elements in its field; for qpos, of each number of the target."""
    if isinstance(target.names, Selection):
        return _selected(model, target.field, target.names, robot)
    if isinstance(target.names, GeomsOf):
        bodies = [_element(model, "body", name, target, parameter) for name in target.names.bodies]
        ids = [body.id for body in bodies if body is not None]
        return np.flatnonzero(np.isin(model.geom_bodyid, ids))
    kind = _ACCESSORS.get(target.field.split("_")[0])
    if kind is None or (target.field != "qpos" and not hasattr(model, target.field)):
        raise UserError(
            f"The randomization {parameter!r} is of {target.field!r}, which is no field of an MjModel that"
            f" can vary; such fields begin with {', '.join(f'{k}_' for k in _ACCESSORS if k != 'qpos')}."
        )
    indices: list[int] = []
    for name in target.names:
        item = _element(model, kind, name, target, parameter)
        if item is None:
            continue
        if target.field == "qpos":
            assert target.columns is not None
            indices += [int(item.qposadr[0]) + c for c in target.columns]
        else:
            indices.append(int(item.dofadr[0]) if target.field.startswith("dof") else int(item.id))
    return np.array(indices, dtype=np.intp)


def _element(
    model: mujoco.MjModel, kind: str, name: str, target: Target, parameter: str
) -> Any | None:
    """Return MuJoCo's view of the named element; None if there is none and the target is optional."""
    try:
        return _joint(model, name) if target.field == "qpos" else getattr(model, kind)(name)
    except KeyError:
        if target.optional:
            return None
    code = getattr(mujoco.mjtObj, f"mjOBJ_{_OBJECTS.get(kind, kind).upper()}")
    counts = {"joint": model.njnt, "actuator": model.nu, "mat": model.nmat}
    count = counts.get(kind, getattr(model, f"n{kind}", 0))
    known = [mujoco.mj_id2name(model, code, i) or "" for i in range(count)]
    raise unknown_name(f"{kind} of the randomization {parameter!r}", name, filter(None, known))


def _joint(model: mujoco.MjModel, name: str) -> Any:
    """Return the joint of this name, or the free joint of the body of this name; KeyError for neither."""
    if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name) < 0:
        first = int(model.body(name).jntadr[0])
        if first >= 0 and model.jnt_type[first] == mujoco.mjtJoint.mjJNT_FREE:
            return model.joint(first)
    return model.joint(name)


def _selected(
    model: mujoco.MjModel, field: str, selection: Selection, robot: str
) -> NDArray[np.intp]:
    """Return the indices of the elements of a field, or of the bodies or geoms, in a selection."""
    if selection is Selection.ALL:
        return np.arange(len(getattr(model, field)))
    arm = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, robot) if robot else -1
    # a tree is all bodies that hang together by joints; -1 are those fixed to the world
    tree = model.body_treeid[model.jnt_bodyid[arm]] if arm >= 0 else -1
    objects = (model.body_treeid >= 0) & (model.body_treeid != tree)
    return np.flatnonzero(objects if field.startswith("body") else objects[model.geom_bodyid])


def _change(
    values: Array,
    env_ids: EnvIds,
    ids: NDArray[np.intp],
    parameter: Parameter,
    target: Target,
    draws: dict[str, FloatArray],
) -> None:
    """Apply one parameter's draw to the target's elements of values (n, m, c) or (n, m), in place."""
    draw = draws[parameter.name]
    if values.ndim == 2:
        values = values[:, :, None]
    old = values[env_ids[:, None], ids]  # (k, len(ids), c), a copy
    whole = target.columns is None or target.field == "qpos"
    columns: slice | list[int] = slice(None) if whole else list(target.columns or ())
    if parameter.mode == "scale":
        old[..., columns] *= ((1 + draw) ** target.power)[:, None, :]
    elif target.field == "qpos":
        # one draw for each number, or one for all; of several joints, each gets the same
        old += np.tile(draw, len(ids) // draw.shape[1])[:, :, None]
    else:
        old[..., columns] += draw[:, None, :]
    values[env_ids[:, None], ids] = old
