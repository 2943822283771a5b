"""Files that a scene may include from any folder, and the check that the included robot is unchanged.

An MJCF include is textual: a `<compiler>` or `<default>` of the scene also applies to the included robot.
So its angles are converted to the unit of the scene, and other changes of the robot are refused.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import mujoco
import numpy as np

from simscaleai.array_types import Array
from simscaleai.errors import UserError
from simscaleai.sim.robots.panda import PANDA

ASSETS = Path(__file__).parent / "assets"
ROBOT = "panda.xml"
_MARK = "bundled robot"
_KINDS = {
    "body": (mujoco.mjtObj.mjOBJ_BODY, "nbody"),
    "jnt": (mujoco.mjtObj.mjOBJ_JOINT, "njnt"),
    "geom": (mujoco.mjtObj.mjOBJ_GEOM, "ngeom"),
    "site": (mujoco.mjtObj.mjOBJ_SITE, "nsite"),
    "tendon": (mujoco.mjtObj.mjOBJ_TENDON, "ntendon"),
    "eq": (mujoco.mjtObj.mjOBJ_EQUALITY, "neq"),
    "actuator": (mujoco.mjtObj.mjOBJ_ACTUATOR, "nu"),
}
"""{prefix of MjModel's fields: (MuJoCo's object type, field with the number of objects)}."""
# integers that change contacts and limits; other integers are indices, which depend on the scene
_SWITCHES = ("contype", "conaffinity", "condim", "priority", "limited")
# what MuJoCo derives from the whole model, and what has no influence on physics
_DERIVED = ("invweight0", "length0", "acc0", "M0", "dof_length", "rbound", "aabb", "_user", "rgba")


@cache
def bundled_files() -> dict[str, bytes]:
    """Return {path below `ASSETS`: bytes}; the robot has a mark, by which `take_mark` recognizes it."""
    files = (p for p in ASSETS.rglob("*") if p.is_file())
    found = {p.relative_to(ASSETS).as_posix(): p.read_bytes() for p in files}
    mark = f'<custom><text name="{_MARK}" data="1"/></custom></mujoco>'.encode()
    found[ROBOT] = found[ROBOT].replace(b"</mujoco>", mark)
    return found


def take_mark(spec: mujoco.MjSpec) -> bool:
    """Return whether `spec` includes the bundled robot, and remove its mark."""
    marks = [text for text in spec.texts if text.name == _MARK]
    for mark in marks:
        spec.delete(mark)
    return bool(marks)


def keep_angles(spec: mujoco.MjSpec) -> None:
    """Convert the ranges of the arm's joints, in rad in the file, to the unit of the scene."""
    if spec.compiler.degree:
        for name in PANDA.arm_joints:
            spec.joint(name).range = np.degrees(spec.joint(name).range)


def check_unchanged(model: mujoco.MjModel) -> None:
    """Raise UserError if the robot in `model` differs from that of the bundled file."""
    for kind, field, names, expected in _reference():
        ids = [mujoco.mj_name2id(model, _KINDS[kind][0], name) for name in names]
        found = _rows(model, field, ids)
        if found.shape != expected.shape:
            continue  # a size that the whole model shares, such as that of sensors' user data
        close = np.isclose(found, expected, rtol=1e-6, atol=1e-9).reshape(len(ids), -1)
        for index, name, same, now, was in zip(ids, names, close, found, expected, strict=True):
            if index < 0 or not same.all():
                values = f"{np.round(now, 6).tolist()} and not {np.round(was, 6).tolist()}"
                change = f"{name!r} is gone" if index < 0 else f"{field} of {name!r} is {values}"
                raise UserError(
                    f"The scene changes the robot of {ROBOT} that it includes: {change}; take the <compiler>"
                    f" or <default> setting that does so out of the scene, or put your own {ROBOT} beside it."
                )


@cache
def _reference() -> list[tuple[str, str, list[str], Array]]:
    """Return (kind, field, k names, values (k, ...)) of every named element of the robot's file alone."""
    files = bundled_files()
    model = mujoco.MjSpec.from_string(files[ROBOT].decode(), assets=files).compile()
    found = []
    for kind, (of, count) in _KINDS.items():
        named = [mujoco.mj_id2name(model, of, i) for i in range(getattr(model, count))]
        ids = [i for i, name in enumerate(named) if name and name != "world"]
        prefixes = ("jnt_", "dof_", "qpos0", "qpos_spring") if kind == "jnt" else (f"{kind}_",)
        for field in dir(model):
            if field.startswith(prefixes) and _is_physics(model, field):
                found.append((kind, field, [named[i] for i in ids], _rows(model, field, ids)))
    return found


def _is_physics(model: mujoco.MjModel, field: str) -> bool:
    values = getattr(model, field)
    if not isinstance(values, np.ndarray) or field.endswith(_DERIVED):
        return False
    return values.dtype.kind == "f" or field.endswith(_SWITCHES)


def _rows(model: mujoco.MjModel, field: str, ids: list[int]) -> Array:
    """Return `field` of k objects, (k, ...); of joints (hinges and slides) also fields of dof and qpos."""
    where = np.array(ids)
    if field.startswith("dof_"):
        where = model.jnt_dofadr[where]
    elif field.startswith("qpos"):
        where = model.jnt_qposadr[where]
    return np.array(getattr(model, field)[where], dtype=np.float64)
