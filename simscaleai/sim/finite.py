"""Refuse models with NaN or absurd numbers, which would crash a renderer or spoil every step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import Array
from simscaleai.errors import UserError

LARGEST = 1e10  # MuJoCo's mjMAXVAL: larger numbers in a state count as unstable
# ranges may be infinite, user data is free, and inverse weights of light bodies are large
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
"""{prefix of a field: MuJoCo's type of its objects}, for the name in the error."""


def check_finite(model: mujoco.MjModel, what: str) -> None:
    """Raise UserError, which names field and object, for a number that is not finite or beyond `LARGEST`.

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
    """Return " of 'name'" for an entry of `field`, or its number if the object has no name."""
    kind = _OWNERS.get(field.split("_")[0])
    if kind is None or not len(where):
        return ""
    name = mujoco.mj_id2name(model, kind, int(where[0]))
    return f" of {name!r}" if name else f" (number {where[0]})"


def _numbers(model: mujoco.MjModel) -> Iterator[tuple[str, Array]]:
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
    """Return the names of a model's fields that are arrays of floats."""
    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    values = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    names = [n for n, v in values.items() if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
    # fields of the file before derived ones, so that the error names what the user wrote
    return sorted(names, key=lambda name: name.endswith(_DERIVED))
