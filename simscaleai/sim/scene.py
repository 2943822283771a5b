"""Compile a scene file with a robot attached to it."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import cache, lru_cache
from pathlib import Path

import mujoco
import numpy as np

from simscaleai.errors import MissingFileError, UserError
from simscaleai.guards import guarded, regular_file
from simscaleai.sim import bundled
from simscaleai.sim.bundled import bundled_files, check_unchanged, keep_angles, take_mark
from simscaleai.sim.camera_poses import place_cameras
from simscaleai.sim.finite import check_finite
from simscaleai.sim.robots.robot import PADS, Robot
from simscaleai.sim.scene_sizes import check_pictures, check_sizes

ASSETS = bundled.ASSETS
logger = logging.getLogger(__name__)

# How fast a sticking contact loses its slip: a fraction f of the slip speed per substep. MuJoCo's contact
# constraint does not see the acceleration of a surface that moves along a curve (the term Jdot qdot),
# so a held object lags by Jdot qdot h and creeps in proportion to (2 - f) / f. f = 1 would remove the
# slip seen in each substep, and f -> 2 cancels the lag of the next one too, at the edge of stability.
STICK = 1.9

MOUNT = "robot"
"""Name of the body of a scene to which a robot is attached."""


def load_model(
    path: str | Path,
    dt: float,
    robot: Robot | None = None,
    camera_poses: Mapping[str, Sequence[float]] | None = None,
) -> mujoco.MjModel:
    """Compile a scene for a physics timestep of `dt` seconds.

    A scene in any folder may include bundled files, such as `<include file="scene.xml"/>` (table, lights,
    cameras). `robot` is attached to its body "robot", or at the origin, unless the scene contains the robot
    already. Options of the scene win over those of the robot's file, unless they are MuJoCo's
    defaults. Contact pairs (`<pair>`) of the robot's finger pads become sticking: their friction reference
    damps slip by `STICK` per substep, which keeps grasped objects from creeping at any timestep.

    Args:
      path: an MJCF file.
      dt: > 0, s; see `check_timing`.
      robot: the robot to attach; None for a scene that is complete.
      camera_poses: cameras to move or to add; see `SimConfig`.

    Raises:
      MissingFileError: there is no such file.
      UserError: MuJoCo cannot read it, it asks for more memory than a scene may have, has numbers that are
        not finite, or changes the robot that it includes; or a camera's pose is none.
    """
    path = regular_file(path, "scene", folder=True)
    if not path.is_file():
        raise MissingFileError(f"There is no scene file {str(path)!r}; give an MJCF (.xml) file.")
    with guarded(f"The scene {str(path)!r}", "give an MJCF file that MuJoCo can compile"):
        if not camera_poses and _is_bundled(path) and (robot is None or _is_bundled(robot.path)):
            model = copy(_compiled_once(path, robot))
        else:
            model = _compiled(path, robot, camera_poses or {})
    if newton_in_doubt(model):
        _warn_of_newton()
    model.opt.timestep = dt
    # With autoreset, the state is finite again at the end of the step in which physics became unstable.
    model.opt.disableflags &= ~mujoco.mjtDisableBit.mjDSBL_AUTORESET.value
    roles = robot.geoms if robot is not None else {}
    names = [roles.get(role, role) for role in PADS]
    pads = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, name) for name in names]
    of_pads = np.isin(model.pair_geom1, pads) | np.isin(model.pair_geom2, pads)
    # Negative numbers are MuJoCo's direct form, (-stiffness, -damping). The stiffness is nearly 0, since
    # friction has no position to return to.
    model.pair_solreffriction[of_pads] = (-1e-9, -STICK / dt)
    return model


def _is_bundled(path: Path) -> bool:
    """Return whether a file lies directly in `ASSETS`, whose files do not change while a program runs."""
    return path.parent == ASSETS


@lru_cache(maxsize=16)  # a few MB each; every task with every robot
def _compiled_once(path: Path, robot: Robot | None) -> mujoco.MjModel:
    """Do what `_compiled` does, once for many environments; callers change copies of the model."""
    return _compiled(path, robot, {})


def _compiled(
    path: Path, robot: Robot | None, camera_poses: Mapping[str, Sequence[float]]
) -> mujoco.MjModel:
    """Return the checked model of a scene with its robot."""
    try:
        spec = _parsed(path)
        has_robot = take_mark(spec)
        if has_robot:
            keep_angles(spec)
        with _silent():
            if robot is not None and not _has_any(spec, robot):
                _attach(spec, robot)
            place_cameras(spec, camera_poses)
            model = spec.compile()
    except UserError:
        raise
    except (ValueError, RuntimeError, mujoco.FatalError, mujoco.UnexpectedError) as error:
        reason = " ".join(str(error).split()).rstrip(".")  # MuJoCo's message has several lines
        raise UserError(f"MuJoCo cannot read the scene {str(path)!r}: {reason}.") from error
    check_finite(model, f"The scene {str(path)!r}")
    if has_robot:
        check_unchanged(model)
    return model


def _parsed(path: Path) -> mujoco.MjSpec:
    """Return the parsed file; UserError if it asks for too much memory."""
    files = _bundled_beside(path)
    # before MuJoCo allocates any of it
    check_sizes(path, files)
    spec = mujoco.MjSpec.from_file(str(path), include=files, assets=files)
    check_pictures(path, spec)
    return spec


def _has_any(spec: mujoco.MjSpec, robot: Robot) -> bool:
    """Return whether a scene has any part of the robot; then it is meant to contain the whole robot."""
    return any(getattr(spec, kind)(name) is not None for kind, name in robot.names())


def _attach(scene: mujoco.MjSpec, robot: Robot) -> None:
    """Attach the robot to the scene, keep its names, and replace roles in the scene by its geoms.

    Raises:
      MissingFileError: there is no such MJCF.
    """
    path = regular_file(robot.path, "robot", folder=True)
    if not path.is_file():
        raise MissingFileError(f"There is no file {str(path)!r} of the robot {robot.name!r}.")
    arm = _parsed(path)
    if robot.ee_body:
        body = arm.body(robot.ee_body)
        if body is None:
            raise UserError(f"The robot {robot.name!r} has no body {robot.ee_body!r} for ee_body.")
        body.add_site(name=robot.ee_site, pos=robot.ee_pos, quat=robot.ee_quat)
    # keyframes of the robot alone have too few numbers for a scene with more joints
    for key in list(arm.keys):
        arm.delete(key)
    mount = scene.body(MOUNT)
    base = (mount if mount is not None else scene.worldbody).add_frame()
    _take_options(scene.option, arm.option)
    scene.attach(arm, frame=base, prefix="", suffix="")
    roles = robot.geoms
    for pair in scene.pairs:
        pair.geomname1 = roles.get(pair.geomname1, pair.geomname1)
        pair.geomname2 = roles.get(pair.geomname2, pair.geomname2)
    for sensor in scene.sensors:
        sensor.objname = roles.get(sensor.objname, sensor.objname)
        sensor.refname = roles.get(sensor.refname, sensor.refname)


def _take_options(scene: mujoco.MjOption, robot: mujoco.MjOption) -> None:
    """Copy the robot's options to the scene where it has MuJoCo's defaults, and add the robot's flags."""
    default = mujoco.MjSpec().option
    for name in (name for name in dir(default) if not name.startswith("_")):
        own, taken = getattr(scene, name), getattr(robot, name)
        if name in ("disableflags", "enableflags"):
            setattr(scene, name, own | taken)
        elif np.array_equal(own, getattr(default, name)):
            setattr(scene, name, taken)


@contextmanager
def _silent() -> Iterator[None]:
    """Hide warnings of what is intended: names without a prefix, and options of the scene that win."""
    previous = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda text: None)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Attach")
            yield
    finally:
        mujoco.set_mju_user_warning(previous)


def newton_in_doubt(model: mujoco.MjModel, version: str = mujoco.__version__) -> bool:
    """Return whether `model` uses what MuJoCo 4.0.0 gets wrong: Newton's solver with sparse matrices."""
    newton = model.opt.solver == mujoco.mjtSolver.mjSOL_NEWTON
    return version == "4.0.0" and newton and bool(mujoco.mj_isSparse(model))


@cache
def _warn_of_newton() -> None:
    """Log the warning once per process."""
    logger.warning(
        "This scene has 60 or more degrees of freedom or a sparse Jacobian, for which the Newton solver of"
        " MuJoCo 4.0.0 may factorize a matrix wrongly; install MuJoCo 4.0.1, or write"
        ' <option jacobian="dense"/> in the scene.'
    )


def _bundled_beside(path: Path) -> dict[str, bytes]:
    """Return the bundled files that a scene at `path` may include; files of its own folder win."""
    folder = path.resolve().parent
    return {name: data for name, data in bundled_files().items() if not (folder / name).exists()}


def frame_rate(control_dt: float) -> int | float:
    """Return the frames per second of a video with one frame per control step, an int if it is whole."""
    rate = 1.0 / control_dt
    return round(rate) if abs(rate - round(rate)) < 1e-9 * rate else rate


def check_timing(dt: float, control_dt: float, max_episode_steps: int) -> int:
    """Return the number of physics steps in a control step.

    Raises:
      UserError: it is not a whole number, or a time or the length of an episode is not positive.
    """
    for name, value in {"dt": dt, "control_dt": control_dt}.items():
        if not 0 < value < math.inf:
            raise UserError(f"{name} is {value} s; it must be positive and finite.")
    if max_episode_steps < 1:
        raise UserError(f"max_episode_steps is {max_episode_steps}; it must be at least 1.")
    count = round(control_dt / dt)
    if count < 1 or abs(count * dt - control_dt) > 1e-9:
        raise UserError(
            f"control_dt {control_dt} s is not a whole multiple of dt {dt} s;"
            f" use {max(1, count) * dt:.6g} s, say."
        )
    return count
