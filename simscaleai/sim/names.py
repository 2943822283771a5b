"""Check that a scene has the elements that a robot or task finds by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import mujoco

from simscaleai.errors import UserError


def check_names(
    model: mujoco.MjModel, who: str, needs: Mapping[str, Sequence[str]], remedy: str
) -> None:
    """Raise UserError, which lists every missing element, if `model` lacks a name that `who` needs.

    Args:
      who: the robot or task, in words.
      needs: {one of `_KINDS`: names}.
      remedy: the end of the sentence: what to do about it.
    """
    # all at once: a user who repairs a scene wants the whole list
    lacks = {kind: [n for n in names if not _has(model, kind, n)] for kind, names in needs.items()}
    listed = [f"the {_KINDS[k][0]} {', '.join(names)}" for k, names in lacks.items() if names]
    if listed:
        raise UserError(f"The scene lacks what {who} needs: {', '.join(listed)}; {remedy}.")


def _has(model: mujoco.MjModel, kind: str, name: str) -> bool:
    """Return whether `model` has an element of this name that is of this kind."""
    _, of, fits = _KINDS[kind]
    index = mujoco.mj_name2id(model, of, name)
    return index >= 0 and fits(model, index)


def _any(model: mujoco.MjModel, index: int) -> bool:
    return True


def _mocap(model: mujoco.MjModel, body: int) -> bool:
    return bool(model.body_mocapid[body] >= 0)


def _free(model: mujoco.MjModel, body: int) -> bool:
    joint = model.body_jntadr[body]  # the first joint of the body, -1 for none
    return bool(joint >= 0 and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE)


def _hinge(model: mujoco.MjModel, joint: int) -> bool:
    return bool(model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE)


def _slide(model: mujoco.MjModel, joint: int) -> bool:
    return bool(model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE)


def _servo(model: mujoco.MjModel, actuator: int) -> bool:
    """Return whether the actuator is a position servo: force = gain x (ctrl - position) - damping."""
    gain = model.actuator_gainprm[actuator, 0]
    return bool(gain > 0 and model.actuator_biasprm[actuator, 1] == -gain)


def _one_number(model: mujoco.MjModel, joint: int) -> bool:
    return _slide(model, joint) or _hinge(model, joint)


def _gripper_servo(model: mujoco.MjModel, actuator: int) -> bool:
    """Return whether the actuator is a position servo in any unit: its force falls as the gripper moves."""
    # the control of a real gripper may count 0..255, so that gain and bias differ
    return bool(
        model.actuator_gainprm[actuator, 0] != 0 and model.actuator_biasprm[actuator, 1] < 0
    )


def _joint_servo(model: mujoco.MjModel, actuator: int) -> bool:
    joint = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, model.actuator(actuator).name)
    # an actuator may also drive a tendon or a site
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
"""{kind: (its name in a sentence, MuJoCo's object type, test whether an element is of this kind)}."""
