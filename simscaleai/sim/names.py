"""What a robot or task finds in a scene by name, and the sentence that lists what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import mujoco

from simscaleai.errors import UserError


def check_names(
    model: mujoco.MjModel, who: str, needs: Mapping[str, Sequence[str]], remedy: str
) -> None:
    """UserError, which lists all that is missing, if `model` lacks a name that `who` needs.

    Args:
      needs: {one of `_KINDS`: names}.
      remedy: what to do about it.
    """
    lacks = {kind: [n for n in names if not _has(model, kind, n)] for kind, names in needs.items()}
    listed = [f"the {_KINDS[k][0]} {', '.join(names)}" for k, names in lacks.items() if names]
    if listed:
        raise UserError(f"The scene lacks what {who} needs: {', '.join(listed)}; {remedy}.")


def _has(model: mujoco.MjModel, kind: str, name: str) -> bool:
    _, of, fits = _KINDS[kind]
    index = mujoco.mj_name2id(model, of, name)
    return index >= 0 and fits(model, index)


def _any(model: mujoco.MjModel, index: int) -> bool:
    return True


def _mocap(model: mujoco.MjModel, body: int) -> bool:
    return bool(model.body_mocapid[body] >= 0)


def _free(model: mujoco.MjModel, body: int) -> bool:
    joint = model.body_jntadr[body]
    return bool(joint >= 0 and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE)


def _hinge(model: mujoco.MjModel, joint: int) -> bool:
    return bool(model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE)


def _slide(model: mujoco.MjModel, joint: int) -> bool:
    return bool(model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE)


def _servo(model: mujoco.MjModel, actuator: int) -> bool:
    """Whether the actuator takes a position: its force is gain x (ctrl - position) - damping."""
    gain = model.actuator_gainprm[actuator, 0]
    return bool(gain > 0 and model.actuator_biasprm[actuator, 1] == -gain)


def _one_number(model: mujoco.MjModel, joint: int) -> bool:
    return _slide(model, joint) or _hinge(model, joint)


def _gripper_servo(model: mujoco.MjModel, actuator: int) -> bool:
    """Whether the actuator takes a position in whatever unit: its force falls as the gripper follows."""
    return bool(
        model.actuator_gainprm[actuator, 0] != 0 and model.actuator_biasprm[actuator, 1] < 0
    )


def _joint_servo(model: mujoco.MjModel, actuator: int) -> bool:
    joint = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, model.actuator(actuator).name)
    on_joint = model.actuator_trntype[actuator] == mujoco.mjtTrn.mjTRN_JOINT
    return bool(on_joint and model.actuator_trnid[actuator, 0] == joint) and _servo(model, actuator)


_KINDS: Mapping[str, tuple[str, mujoco.mjtObj, Callable[[mujoco.MjModel, int], bool]]] = {
    "body": ("bodies", mujoco.mjtObj.mjOBJ_BODY, _any),
    "mocap": ('mocap bodies (mocap="true")', mujoco.mjtObj.mjOBJ_BODY, _mocap),
    "free": ("bodies with a free joint", mujoco.mjtObj.mjOBJ_BODY, _free),
    "hinge": ("hinge joints", mujoco.mjtObj.mjOBJ_JOINT, _hinge),
    "slide": ("slide joints", mujoco.mjtObj.mjOBJ_JOINT, _slide),
    "servo": ("position actuators", mujoco.mjtObj.mjOBJ_ACTUATOR, _servo),
    "joint servo": (
        "position actuators of the joints of the same names",
        mujoco.mjtObj.mjOBJ_ACTUATOR,
        _joint_servo,
    ),
    "finger": ("slide or hinge joints", mujoco.mjtObj.mjOBJ_JOINT, _one_number),
    "gripper servo": ("position actuators", mujoco.mjtObj.mjOBJ_ACTUATOR, _gripper_servo),
    "site": ("sites", mujoco.mjtObj.mjOBJ_SITE, _any),
    "sensor": ("sensors", mujoco.mjtObj.mjOBJ_SENSOR, _any),
}
"""What a task or robot finds by name: {kind: (in words, MuJoCo's type, whether an object is one)}."""
