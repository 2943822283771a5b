"""A grasp is friction and contact: no weld, no magnet, nothing written to the cube."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import pytest

from simscaleai.sim import make_env, make_vec_env

OPEN, CLOSE = 1.0, -1.0


def rows(n: int, dt: float = 0.005, **settings: Any) -> Any:
    return make_vec_env("pick_place", n, dt=dt, autoreset_mode="disabled", **settings)


def cube(env: Any) -> np.ndarray:
    return env.sim.qpos[:, env.task.position].copy()


def hand(env: Any) -> np.ndarray:
    return env.sim.site_xpos[:, env.task.controller.site].copy()


def in_hand(env: Any) -> np.ndarray:
    """Where the cube is in the hand's frame, (n, 3) m."""
    turned = env.sim.site_xmat[:, env.task.controller.site].reshape(-1, 3, 3)
    return np.einsum("nji,nj->ni", turned, cube(env) - hand(env))


def lift(env: Any) -> None:
    """Reset, grasp and lift, towards a target that is out of reach."""
    env.reset(seed=0)
    env.sim.mocap_pos[:, env.task.target] = cube(env) + np.array([0, 0, 1.0])
    expert = env.task.expert()
    for _ in range(28):
        *_, info = env.step(expert.act(env.task.observe(env.sim)))
    assert info["grasped"].all() and info["lifted"].all()


def test_nothing_ties_the_cube_to_the_hand() -> None:
    model = make_env("pick_place", cameras=[]).model
    # fingers move together; that is all
    assert model.eq_type.tolist() == [mujoco.mjtEq.mjEQ_JOINT]
    assert model.nmocap == 1 and model.body("target").mocapid[0] == 0
    # an adhesion actuator would be a magnet
    assert set(model.actuator_trntype.tolist()) == {
        int(mujoco.mjtTrn.mjTRN_JOINT),
        int(mujoco.mjtTrn.mjTRN_TENDON),
    }


@pytest.mark.parametrize("randomize", [False, True])
def test_an_episode_is_bare_mujoco_driven_by_its_controls(randomize: bool) -> None:
    """After reset the environment writes `ctrl` and nothing else: bare mj_step does the same."""
    env = make_env("pick_place", cameras=[], dt=0.005, domain_randomization=randomize)
    obs, _ = env.reset(seed=0)
    bare = mujoco.MjData(env.model)
    bare.qpos[:], bare.mocap_pos[:] = env.data.qpos, env.data.mocap_pos
    expert = env.task.expert()
    terminated = False
    while not terminated:
        obs, _, terminated, _, info = env.step(expert.act({k: v[None] for k, v in obs.items()})[0])
        bare.ctrl[:] = env.data.ctrl
        mujoco.mj_step(env.model, bare, env.substeps)
        np.testing.assert_array_equal(bare.qpos, env.data.qpos)
        np.testing.assert_array_equal(bare.qvel, env.data.qvel)
        assert info["step"] < 100
    assert not env.data.xfrc_applied.any() and not env.data.qfrc_applied.any()
    assert info["lifted"]


def test_closing_beside_the_cube_and_lifting_leaves_it_on_the_table() -> None:
    env = rows(8)
    env.reset(seed=0)
    start = cube(env)
    beside = np.hstack((start[:, :2] + (0.0, 0.09), np.full((8, 1), 0.02)))
    above = beside + np.array([0, 0, 0.1])
    seen = []

    def go(goal: np.ndarray, gripper: float, steps: int) -> None:
        for _ in range(steps):
            action = np.full((8, 4), gripper)
            action[:, :3] = np.clip((goal - hand(env)) / 0.05, -1, 1)
            *_, info = env.step(action)
            seen.append(info["grasped"] | info["lifted"] | info["success"])

    go(above, OPEN, 30)
    go(beside, OPEN, 20)
    np.testing.assert_allclose(hand(env), beside, atol=0.01)
    go(beside, CLOSE, 10)
    go(above + np.array([0, 0, 0.1]), CLOSE, 20)
    assert (hand(env)[:, 2] > 0.15).all()
    assert not np.any(seen)
    np.testing.assert_allclose(cube(env), start, rtol=0, atol=1e-3)


def test_a_cube_far_from_the_hand_stays_where_it_is() -> None:
    env = rows(8)
    env.reset(seed=1)
    for _ in range(10):
        env.step(np.zeros((8, 4)))
    start, rng = cube(env), np.random.default_rng(0)
    for _ in range(60):
        action = rng.uniform(-1, 1, (8, 4))
        action[:, 2] = np.where(hand(env)[:, 2] < 0.25, 1.0, action[:, 2])
        env.step(action)
        np.testing.assert_allclose(cube(env), start, rtol=0, atol=1e-6)


def success(run_expert: Any, mass: float, friction: float, n: int = 16) -> float:
    """The expert's success rate with a cube of `mass` kg and all friction times `friction`."""
    env = rows(n)
    body = env.model.body("object").id
    scale = mass / env.model.body_mass[body]
    env.sim.parameter("body_mass")[:, body] *= scale
    env.sim.parameter("body_inertia")[:, body] *= scale
    env.sim.set_const(np.arange(n))
    env.sim.parameter("pair_friction")[:] *= friction
    env.sim.parameter("geom_friction")[:] *= friction
    obs, _ = env.reset(seed=0)
    return float(run_expert(env, obs, 80)["solved"].mean())


def test_halving_friction_lowers_success(run_expert: Any) -> None:
    """Coulomb: two fingers that press with 20 N each hold 50 N at a coefficient of 1.25.

    That is enough for 2.5 kg (25 N); half the friction is not.
    """
    assert success(run_expert, mass=2.5, friction=1.0) >= 0.8
    assert success(run_expert, mass=2.5, friction=0.5) <= 0.2


def test_without_friction_nothing_is_held(run_expert: Any) -> None:
    assert success(run_expert, mass=0.05, friction=1.0) == 1.0
    assert success(run_expert, mass=0.05, friction=0.002) == 0.0


def test_a_cube_too_heavy_for_the_grip_is_not_lifted(run_expert: Any) -> None:
    assert success(run_expert, mass=8.0, friction=1.0) == 0.0


@pytest.mark.parametrize("dt", [0.002, 0.005])
def test_a_held_cube_stays_held_in_fast_motion(dt: float) -> None:
    """2 s here; `benchmarks/experts.py` does 10 s."""
    env = rows(16, dt, max_episode_steps=1000)
    lift(env)
    start, rng = in_hand(env), np.random.default_rng(0)
    action, travelled = np.full((16, 4), CLOSE), np.zeros(16)
    for step in range(40):
        if step % 8 == 0:
            direction = rng.normal(size=(16, 3))
            action[:, :3] = direction / np.abs(direction).max(axis=1, keepdims=True)
        low = hand(env)[:, 2] < 0.12  # the table would push the cube
        action[low, 2] = np.abs(action[low, 2])
        before = hand(env)
        *_, info = env.step(action)
        travelled += np.linalg.norm(hand(env) - before, axis=1)
        assert info["grasped"].all()
    assert travelled.mean() > 0.5  # m: it was fast
    assert np.linalg.norm(in_hand(env) - start, axis=1).max() < 0.003


@pytest.mark.parametrize("dt", [0.002, 0.005])
def test_a_zero_action_holds_the_cube_still(dt: float) -> None:
    env = rows(6, dt)
    lift(env)
    for _ in range(20):
        env.step(np.zeros((6, 4)))
    start, held = hand(env), cube(env)
    for _ in range(40):  # 2 s
        *_, info = env.step(np.zeros((6, 4)))
        assert np.linalg.norm(hand(env) - start, axis=1).max() < 5e-4
        assert np.linalg.norm(cube(env) - held, axis=1).max() < 1e-3
    assert info["grasped"].all()
