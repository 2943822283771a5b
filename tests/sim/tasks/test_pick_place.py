"""The task's start, flags and expert."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from simscaleai import seeding
from simscaleai.sim import make_env, make_vec_env
from simscaleai.sim.tasks.pick_place import half_extent

OPEN, CLOSE = 1.0, -1.0


@pytest.fixture
def env() -> Any:
    env = make_vec_env("pick_place", 6, dt=0.005, autoreset_mode="disabled")
    env.reset(seed=0)
    return env


def drive(env: Any, steps: int, gripper: float | None = None) -> dict[str, np.ndarray]:
    """`steps` of the expert with its gripper overridden by `gripper`; the last info."""
    expert, info = env.task.expert(), {}
    for _ in range(steps):
        action = expert.act(env.task.observe(env.sim))
        if gripper is not None:
            action[:, 3] = gripper
        *_, info = env.step(action)
    return info


def far_target(env: Any) -> None:
    """Put targets out of reach above the cube, so that the expert lifts and episodes go on."""
    env.sim.mocap_pos[:, env.task.target] = env.sim.qpos[:, env.task.position] + np.array(
        [0, 0, 1.0]
    )


def test_starts_are_as_documented() -> None:
    task = make_env("pick_place", cameras=[]).task
    u = seeding.generator(0, "test").random((4000, task.num_uniforms))
    start = task.initial_state(u)
    cube, target = start["qpos"][:, task.position], start["mocap_pos"][:, 0]
    assert (cube[:, 2] == 0.02).all()  # a 4 cm cube on the table
    apart = np.linalg.norm((target - cube)[:, :2], axis=1)
    assert apart.min() >= 0.10 - 1e-6
    on_table = target[:, 2] == 0.02
    assert 0.47 < on_table.mean() < 0.53
    assert (target[~on_table, 2] >= 0.10).all() and (target[~on_table, 2] <= 0.30).all()
    for where in (cube, target):
        assert (where[:, :2] > (0.22, -0.40)).all() and (where[:, :2] < (0.75, 0.40)).all()
    turned = Rotation.from_quat(start["qpos"][:, task.quaternion], scalar_first=True)
    yaw, pitch, roll = turned.as_euler("zyx").T
    np.testing.assert_allclose((pitch, roll), 0, atol=1e-9)
    assert (np.histogram(yaw, 8, (-np.pi, np.pi))[0] > 400).all()


def test_the_cube_starts_at_rest(env: Any) -> None:
    start = env.sim.qpos[:, env.task.position].copy()
    for _ in range(20):
        _, _, _, _, info = env.step(np.zeros((6, 4)))
    # contact is a little soft: it sinks in by a tenth of a millimetre
    np.testing.assert_allclose(env.sim.qpos[:, env.task.position], start, rtol=0, atol=2e-4)
    assert not (info["grasped"] | info["lifted"] | info["success"]).any()


def test_distances_are_what_they_say(env: Any) -> None:
    obs, _, _, _, info = env.step(np.full((6, 4), 0.2))
    to_cube = np.linalg.norm(obs["object_pos"] - obs["ee_pos"], axis=1)
    to_target = np.linalg.norm(obs["object_pos"] - obs["target_pos"], axis=1)
    np.testing.assert_allclose(info["reach_dist"], to_cube, atol=1e-6)
    np.testing.assert_allclose(info["place_dist"], to_target, atol=1e-6)


def test_flags_follow_a_grasp_a_lift_and_a_drop(env: Any) -> None:
    far_target(env)
    info = drive(env, 10)
    assert not info["grasped"].any()
    info = drive(env, 30)
    assert info["grasped"].all() and info["lifted"].all() and not info["success"].any()
    open_hand = np.zeros((6, 4))
    open_hand[:, 3] = OPEN
    for _ in range(20):
        *_, info = env.step(open_hand)
    assert not info["grasped"].any() and info["lifted"].all()  # it has been lifted
    assert (env.sim.qpos[:, env.task.position.start + 2] < 0.03).all()  # and is on the table again


def test_success_needs_a_lift(env: Any) -> None:
    env.sim.mocap_pos[:, env.task.target] = env.sim.qpos[:, env.task.position]
    _, _, terminated, _, info = env.step(np.zeros((6, 4)))
    assert (info["place_dist"] < 0.001).all()
    assert not info["success"].any() and not terminated.any()


def test_success_is_within_3_cm_of_the_target(env: Any) -> None:
    far_target(env)
    drive(env, 40)
    gaps = np.array([0.0, 0.02, 0.028, 0.032, 0.04, 0.1])
    env.sim.mocap_pos[:, env.task.target] = env.sim.qpos[:, env.task.position]
    env.sim.mocap_pos[:, env.task.target, 1] += gaps
    measured = env.task.info(env.sim)
    np.testing.assert_allclose(measured["place_dist"], gaps, atol=1e-9)
    assert measured["success"].tolist() == [True, True, True, False, False, False]


def test_a_closed_empty_hand_holds_nothing(env: Any) -> None:
    shut = np.zeros((6, 4))
    shut[:, 3] = CLOSE
    for _ in range(20):
        *_, info = env.step(shut)
        assert not info["grasped"].any()


def test_an_open_hand_around_the_cube_does_not_hold_it(env: Any) -> None:
    info = drive(env, 30, gripper=OPEN)
    assert (info["reach_dist"] < 0.015).all() and not info["grasped"].any()


def test_the_expert_takes_hold_again_after_a_slip(env: Any, run_expert: Any) -> None:
    far_target(env)
    assert drive(env, 32)["lifted"].all()
    drive(env, 8, gripper=OPEN)
    assert (env.sim.qpos[:, env.task.position.start + 2] < 0.05).all()
    cube = env.sim.qpos[:, env.task.position]
    env.sim.mocap_pos[:, env.task.target] = cube + np.array([0.0, 0.05, 0.2])
    assert run_expert(env, env.task.observe(env.sim), 120)["solved"].all()


def test_half_extent_of_a_turned_box() -> None:
    rng = np.random.default_rng(0)
    quat = rng.normal(size=(20, 4))
    quat /= np.linalg.norm(quat, axis=1, keepdims=True)
    axis = rng.normal(size=(20, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    half = rng.uniform(0.01, 0.1, (20, 3))
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T
    for i in range(20):
        turn = Rotation.from_quat(quat[i], scalar_first=True).as_matrix()
        corners = (signs * half[i]) @ turn.T
        expected = (corners @ axis[i]).max()
        found = half_extent(tuple(axis[i][:, None]), quat[i : i + 1], half[i : i + 1])
        assert found[0] == pytest.approx(expected)
