from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simscaleai.array_types import EnvIds
from simscaleai.datagen import generate_dataset
from simscaleai.sim import make_env, make_vec_env
from simscaleai.sim.arrays import Array
from simscaleai.sim.physics import Sim
from simscaleai.sim.robots.controllers import (
    IK_METHODS,
    MAX_DISPLACEMENT,
    EndEffectorController,
    list_controllers,
    register_controller,
)
from simscaleai.sim.robots.panda import PANDA
from simscaleai.storage.episodes import open_dataset

DOWN = np.diag([1.0, -1.0, -1.0])


@pytest.fixture(params=IK_METHODS)
def env(request: pytest.FixtureRequest) -> Any:
    """Six envs of reach whose target is out of the way, so that episodes go on."""
    env = make_vec_env("reach", 6, autoreset_mode="disabled", ik=request.param)
    env.reset(seed=0)
    env.sim.mocap_pos[:] = 9.0
    return env


def hand(env: Any) -> np.ndarray:
    return env.sim.site_xpos[:, env.task.controller.site].copy()


def tilt(env: Any) -> np.ndarray:
    """Angle (rad) between each hand's orientation and straight down, (n,)."""
    turned = env.sim.site_xmat[:, env.task.controller.site].reshape(-1, 3, 3) @ DOWN.T
    trace = np.trace(turned, axis1=1, axis2=2)
    return np.arccos(np.clip((trace - 1) / 2, -1, 1))


@pytest.mark.parametrize("dt", [0.002, 0.005])
def test_a_zero_action_holds_still(dt: float) -> None:
    env = make_vec_env("reach", 4, dt=dt, autoreset_mode="disabled")
    env.reset(seed=0)
    env.sim.mocap_pos[:] = 9.0
    rng = np.random.default_rng(0)
    for _ in range(10):  # to somewhere else, at speed
        env.step(rng.uniform(-1, 1, (4, 4)))
    for _ in range(20):
        env.step(np.zeros((4, 4)))
    start, drift = hand(env), np.zeros(4)
    for _ in range(40):  # 2 s
        env.step(np.zeros((4, 4)))
        drift = np.maximum(drift, np.linalg.norm(hand(env) - start, axis=1))
    assert drift.max() < 5e-4


def test_displacements_move_the_hand_the_right_way() -> None:
    env = make_vec_env("reach", 6, autoreset_mode="disabled")
    env.reset(seed=0)
    env.sim.mocap_pos[:] = 9.0
    wanted = np.vstack((np.eye(3), -np.eye(3)))
    start = hand(env)
    for _ in range(2):
        env.step(np.hstack((wanted, np.zeros((6, 1)))))
    env.step(np.zeros((6, 4)))  # what is under way arrives
    moved = hand(env) - start
    along = np.sum(moved * wanted, axis=1)
    aside = np.linalg.norm(moved - along[:, None] * wanted, axis=1)
    # the servos lag: two steps of 5 cm bring it some 5 to 7 cm
    assert (along > 0.04).all() and (along < 0.11).all()
    assert (aside < 0.2 * along).all()


def test_a_displacement_is_scaled_by_the_action(env: Any) -> None:
    action = np.zeros((6, 4))
    action[:, 0] = np.linspace(-1, 1, 6)
    start = hand(env)
    env.step(action)
    moved = (hand(env) - start)[:, 0]
    assert (np.diff(moved) > 0).all() and moved[0] < 0 < moved[-1]


def test_the_hand_goes_to_a_goal_and_stays_pointing_down(env: Any) -> None:
    goals = np.random.default_rng(0).uniform((0.35, -0.2, 0.15), (0.6, 0.2, 0.4), (6, 3))
    for _ in range(60 if env.config.ik == "dls" else 150):
        action = np.zeros((6, 4))
        action[:, :3] = np.clip((goals - hand(env)) / MAX_DISPLACEMENT, -1, 1)
        env.step(action)
    slack = 0.002 if env.config.ik == "dls" else 0.01
    assert np.linalg.norm(hand(env) - goals, axis=1).max() < slack
    if env.config.ik == "dls":
        assert tilt(env).max() < 0.03


def test_the_gripper_opens_at_plus_one_and_closes_at_minus_one() -> None:
    env = make_env("reach", cameras=[], dt=0.005)
    env.reset(seed=0)
    fingers = [env.model.joint(name).qposadr[0] for name in PANDA.gripper.joints]
    for command, opening in ((-1.0, 0.0), (1.0, PANDA.gripper.travel), (0.0, PANDA.gripper.travel)):
        for _ in range(30):
            env.step(np.array([0, 0, 0, command], np.float32))
        np.testing.assert_allclose(env.data.qpos[fingers], opening, atol=1e-3)


def test_commands_stay_within_limits_whatever_the_action(env: Any) -> None:
    rng = np.random.default_rng(0)
    controller = env.task.controller
    for _ in range(40):
        before = env.sim.qpos[:, controller.qpos].copy()
        env.step(np.sign(rng.uniform(-1, 1, (6, 4))))
        ctrl = env.sim.ctrl
        assert (ctrl[:, controller.ctrl] >= controller.low).all()
        assert (ctrl[:, controller.ctrl] <= controller.high).all()
        step = np.abs(ctrl[:, controller.ctrl] - before)
        assert (step <= np.array(PANDA.velocity_limits) * 0.05 + 1e-12).all()
        assert ((ctrl[:, controller.gripper] >= 0) & (ctrl[:, controller.gripper] <= 0.04)).all()


def test_the_hand_stays_in_the_workspace() -> None:
    env = make_vec_env("reach", 6, dt=0.005, autoreset_mode="disabled")
    env.reset(seed=0)
    env.sim.mocap_pos[:] = 9.0
    away = np.hstack((np.vstack((np.eye(3), -np.eye(3))), np.ones((6, 1))))
    for _ in range(60):
        env.step(away)
        assert (hand(env) > np.array(PANDA.workspace[0]) - 0.01).all()
        assert (hand(env) < np.array(PANDA.workspace[1]) + 0.01).all()
    assert hand(env)[5, 2] == pytest.approx(PANDA.workspace[0][2], abs=2e-3)  # above the table


def test_an_obstacle_does_not_wind_the_target_up() -> None:
    env = make_env("reach", cameras=[], dt=0.005)
    env.reset(seed=0)
    env.sim.mocap_pos[:] = 9.0
    down, up = np.array([0, 0, -1, 0]), np.array([0, 0, 1, 0])
    for _ in range(60):  # onto the table, and long against it
        env.step(down)
    low = hand(env)[0, 2]
    for _ in range(2):
        env.step(up)
    assert hand(env)[0, 2] - low > 0.03


class HalfSpeed(EndEffectorController):
    """Moves the hand half as far for the same action."""

    action_units = ("1 is 2.5 cm", "1 is 2.5 cm", "1 is 2.5 cm", "1 opens, -1 closes")

    def apply(self, sim: Sim, action: Array, env_ids: EnvIds | None = None) -> None:
        super().apply(sim, action * np.array([0.5, 0.5, 0.5, 1.0]), env_ids)


@pytest.fixture
def half_speed() -> str:
    """The name of `HalfSpeed`, registered until the end of the test."""
    register_controller("half_speed", HalfSpeed)
    return "half_speed"


def test_a_registered_controller_drives_any_task_and_robot(half_speed: str) -> None:
    assert half_speed in list_controllers()
    up = np.array([0.0, 0.0, 1.0, 0.0])
    for robot in ("panda", "ur5e"):
        setpoints = []
        for name, action in (("end_effector", 0.5 * up), (half_speed, up)):
            env = make_env("reach", cameras=[], robot=robot, controller=name)
            env.reset(seed=0)
            env.step(action)
            setpoints.append(env.sim.task_state["setpoint"].copy())
        # 0.5 of 5 cm either way
        np.testing.assert_array_equal(*setpoints)
        assert env.contract.env_config["controller"] == half_speed
        assert env.contract.action_units[0] == "1 is 2.5 cm"


def test_worker_processes_know_a_registered_controller(half_speed: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"workers": 2, "max_steps": 3, "show_progress": False}
    path = tmp_path / "data.h5"
    kwargs = {"controller": half_speed}
    generate_dataset("reach", 4, str(path), "random", env_kwargs=kwargs, **settings)
    with open_dataset(path) as data:
        assert data.contract is not None
        assert data.contract.env_config["controller"] == half_speed


def test_the_name_of_a_controller_is_taken_once(
    half_speed: str, refused: Callable[..., str]
) -> None:
    register_controller(half_speed, HalfSpeed)  # the same again
    refused(lambda: register_controller("joint", HalfSpeed), "controller", "'joint'", "taken")
