"""The files that a scene may include from anywhere, and the robot among them: it stays as it is.

An MJCF include is text: a `<compiler>` or `<default>` of the scene rules the included robot too. So angles
are put into the unit that the scene ends up with, and what else would change the robot is refused.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

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
"""{prefix of MjModel's fields: (what has a name there, how many there are)}."""
_SWITCHES = ("contype", "conaffinity", "condim", "priority", "limited")
# what MuJoCo derives from the whole model, and what is nobody's physics
_DERIVED = ("invweight0", "length0", "acc0", "M0", "dof_length", "rbound", "aabb", "_user", "rgba")


@cache
def bundled_files() -> dict[str, bytes]:
    """{path below `ASSETS`: bytes}; the robot has a mark, by which `take_mark` knows it again."""
    files = (p for p in ASSETS.rglob("*") if p.is_file())
    found = {p.relative_to(ASSETS).as_posix(): p.read_bytes() for p in files}
    mark = f'<custom><text name="{_MARK}" data="1"/></custom></mujoco>'.encode()
    found[ROBOT] = found[ROBOT].replace(b"</mujoco>", mark)
    return found


def take_mark(spec: mujoco.MjSpec) -> bool:
    """Whether `spec` includes the bundled robot; its mark is gone then."""
    marks = [text for text in spec.texts if text.name == _MARK]
    for mark in marks:
        spec.delete(mark)
    return bool(marks)


def keep_angles(spec: mujoco.MjSpec) -> None:
    """Put the ranges of the arm's joints, which the file has in rad, into the unit of the scene."""
    if spec.compiler.degree:
        for name in PANDA.arm_joints:
            spec.joint(name).range = np.degrees(spec.joint(name).range)


def check_unchanged(model: mujoco.MjModel) -> None:
    """UserError if the robot in `model` is not that of the file."""
    for kind, field, names, expected in _reference():
        ids = [mujoco.mj_name2id(model, _KINDS[kind][0], name) for name in names]
        found = _rows(model, field, ids)
        if (
            found.shape != expected.shape
        ):  # other sizes of the whole model, as of sensors' user data
            continue
        close = np.isclose(found, expected, rtol=1e-6, atol=1e-9).reshape(len(ids), -1).all(axis=1)
        for index, name, same, now, was in zip(ids, names, close, found, expected, strict=True):
            if index < 0 or not same:
                values = f"{np.round(now, 6).tolist()} and not {np.round(was, 6).tolist()}"
                change = f"{name!r} is gone" if index < 0 else f"{field} of {name!r} is {values}"
                raise UserError(
                    f"The scene changes the robot of {ROBOT} that it includes: {change}; take the <compiler>"
                    f" or <default> setting that does so out of the scene, or put your own {ROBOT} beside it."
                )


@cache
def _reference() -> list[tuple[str, str, list[str], NDArray[Any]]]:
    """(kind, field, k names, values (k, ...)) of all that has a name in the robot alone."""
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


def _rows(model: mujoco.MjModel, field: str, ids: list[int]) -> NDArray[Any]:
    """The numbers of `field` for k objects, (k, ...); of joints (hinges and slides) also dof and qpos."""
    where = np.array(ids)
    if field.startswith("dof_"):
        where = model.jnt_dofadr[where]
    elif field.startswith("qpos"):
        where = model.jnt_qposadr[where]
    return np.array(getattr(model, field)[where], dtype=np.float64)
