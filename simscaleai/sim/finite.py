"""Refusal of models with NaN or absurd numbers, which would crash a renderer or poison every step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError

LARGEST = 1e10  # MuJoCo's mjMAXVAL, beyond which it takes a state for diverged
# ranges may be infinite; what a user or MuJoCo derives of light bodies may be large
_FREE = ("range", "invweight0", "_user", "numeric_data", "tuple_objprm")
_DERIVED = ("aabb", "acc0", "length0", "invweight0", "rbound", "subtreemass", "intrinsic", "M0")
_OWNERS = {
    "actuator": mujoco.mjtObj.mjOBJ_ACTUATOR,
    "body": mujoco.mjtObj.mjOBJ_BODY,
    "cam": mujoco.mjtObj.mjOBJ_CAMERA,
    "geom": mujoco.mjtObj.mjOBJ_GEOM,
    "hfield": mujoco.mjtObj.mjOBJ_HFIELD,
    "jnt": mujoco.mjtObj.mjOBJ_JOINT,
    "key": mujoco.mjtObj.mjOBJ_KEY,
    "light": mujoco.mjtObj.mjOBJ_LIGHT,
    "mat": mujoco.mjtObj.mjOBJ_MATERIAL,
    "mesh": mujoco.mjtObj.mjOBJ_MESH,
    "pair": mujoco.mjtObj.mjOBJ_PAIR,
    "sensor": mujoco.mjtObj.mjOBJ_SENSOR,
    "site": mujoco.mjtObj.mjOBJ_SITE,
    "tendon": mujoco.mjtObj.mjOBJ_TENDON,
}
"""{prefix of a field: what its rows are}, for a name in the error."""


def check_finite(model: mujoco.MjModel, what: str) -> None:
    """UserError that names field and object if a number of `model` is not finite, or beyond `LARGEST`.

    Args:
      what: the model in words, for the error.
    """
    for name, values in _numbers(model):
        free = name.endswith(_FREE)
        # min and max propagate NaN and are cheaper than a mask
        low, high = values.min(initial=0.0), values.max(initial=0.0)
        if np.isnan(low) or np.isnan(high):
            bad, rule = np.isnan(values), "a number"
        elif free or (low >= -LARGEST and high <= LARGEST):
            continue
        else:
            bad, rule = abs(values) > LARGEST, f"at most {LARGEST:g} in size"
        where = np.argwhere(bad)[0]
        owner = _owner(model, name, where)
        number = values[tuple(where)]
        raise UserError(f"{what} has {number:g} in {name}{owner}; it must be {rule}.")


def _owner(model: mujoco.MjModel, field: str, where: NDArray[np.intp]) -> str:
    """ " of 'name'" for a row of `field`, where its object has a name."""
    kind = _OWNERS.get(field.split("_")[0])
    if kind is None or not len(where):
        return ""
    name = mujoco.mj_id2name(model, kind, int(where[0]))
    return f" of {name!r}" if name else f" (number {where[0]})"


def _numbers(model: mujoco.MjModel) -> Iterator[tuple[str, NDArray[Any]]]:
    for name in _float_fields():
        yield name, getattr(model, name)
    visual = {
        part: getattr(model.vis, part) for part in ("global_", "headlight", "map", "rgba", "scale")
    }
    for group, owner in {"option": model.opt, "statistic": model.stat, **visual}.items():
        for name in dir(owner):
            value = None if name.startswith("_") else getattr(owner, name)
            if isinstance(value, float) or (
                isinstance(value, np.ndarray) and value.dtype.kind == "f"
            ):
                yield f"{group.rstrip('_')}.{name}", np.asarray(value)


@cache
def _float_fields() -> list[str]:
    """The fields of a model that are arrays of floats."""
    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    values = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    names = [n for n, v in values.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
    # what a file says before what follows from it, so that the error names the former
    return sorted(names, key=lambda name: name.endswith(_DERIVED))
