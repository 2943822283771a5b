"""The model is the published arm: lengths, limits, masses, gravity compensation, coupled fingers."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from simscaleai.sim import scene as scene_module
from simscaleai.sim.robots.panda import PANDA
from simscaleai.sim.scene import ASSETS, load_model

# Franka Control Interface, "Limits for Panda"
POSITION_LIMITS = {
    "joint1": (-2.8973, 2.8973),
    "joint2": (-1.7628, 1.7628),
    "joint3": (-2.8973, 2.8973),
    "joint4": (-3.0718, -0.0698),
    "joint5": (-2.8973, 2.8973),
    "joint6": (-0.0175, 3.7525),
    "joint7": (-2.8973, 2.8973),
    "finger_joint1": (0.0, 0.04),
    "finger_joint2": (0.0, 0.04),
}
TORQUE_LIMITS = (87, 87, 87, 87, 12, 12, 12)  # Nm
# Gaz et al. 2019, kg: link0..link7
LINK_MASSES = (0.629769, 4.970684, 0.646926, 3.228604, 3.587895, 1.225946, 1.666555, 0.735522)
# Modified DH (a of the joint before, d, alpha of the joint before) for joints 1..7, and the flange's d
DH = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -np.pi / 2),
    (0.0, 0.316, np.pi / 2),
    (0.0825, 0.0, np.pi / 2),
    (-0.0825, 0.384, -np.pi / 2),
    (0.0, 0.0, np.pi / 2),
    (0.088, 0.0, np.pi / 2),
)
FLANGE = 0.107  # m
TOOL = 0.1034  # m, from the flange to between the fingertips


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return load_model(ASSETS / "reach.xml", 0.002, PANDA)


def at(model: mujoco.MjModel, q: np.ndarray) -> mujoco.MjData:
    data = mujoco.MjData(model)
    data.qpos[:7] = q
    mujoco.mj_forward(model, data)
    return data


def dh_frames(q: np.ndarray) -> list[np.ndarray]:
    """World frames (4, 4) of links 1..7 by Craig's convention, computed from the table alone."""
    frame, frames = np.eye(4), []
    for (a, d, alpha), theta in zip(DH, q, strict=True):
        ct, st, ca, sa = np.cos(theta), np.sin(theta), np.cos(alpha), np.sin(alpha)
        frame = frame @ np.array(
            [
                [ct, -st, 0, a],
                [st * ca, ct * ca, -sa, -d * sa],
                [st * sa, ct * sa, ca, d * ca],
                [0, 0, 0, 1],
            ]
        )
        frames.append(frame)
    return frames


def test_link_lengths_are_the_published_ones(model: mujoco.MjModel) -> None:
    data = at(model, np.zeros(7))

    def apart(a: str, b: str) -> float:
        return float(np.linalg.norm(data.body(a).xpos - data.body(b).xpos))

    assert apart("link0", "link1") == pytest.approx(0.333)
    assert apart("link1", "link3") == pytest.approx(0.316)
    assert apart("link3", "link4") == pytest.approx(0.0825)
    assert apart("link4", "link5") == pytest.approx(np.hypot(0.384, 0.0825))
    assert apart("link6", "link7") == pytest.approx(0.088)
    assert apart("link7", "hand") == pytest.approx(0.107)


def test_forward_kinematics_follow_the_dh_table(model: mujoco.MjModel) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        q = rng.uniform(*model.jnt_range[:7].T)
        data, frames = at(model, q), dh_frames(q)
        for i, frame in enumerate(frames, 1):
            body = data.body(f"link{i}")
            np.testing.assert_allclose(body.xpos, frame[:3, 3], atol=1e-9)
            np.testing.assert_allclose(body.xmat.reshape(3, 3), frame[:3, :3], atol=1e-9)
        tool = frames[-1] @ (0, 0, FLANGE + TOOL, 1)
        np.testing.assert_allclose(data.site(PANDA.ee_site).xpos, tool[:3], atol=1e-9)


def test_home_points_straight_down_at_the_documented_point(model: mujoco.MjModel) -> None:
    site = at(model, np.array(PANDA.home)).site(PANDA.ee_site)
    np.testing.assert_allclose(site.xpos, (0.45, 0.0, 0.30), atol=1e-6)
    np.testing.assert_allclose(site.xmat, np.diag([1.0, -1.0, -1.0]).reshape(9), atol=1e-6)


def test_limits_and_masses_are_the_published_ones(model: mujoco.MjModel) -> None:
    for name, limits in POSITION_LIMITS.items():
        joint = model.joint(name)
        assert model.jnt_limited[joint.id]
        np.testing.assert_allclose(joint.range, limits)
    for name, torque in zip(PANDA.arm_joints, TORQUE_LIMITS, strict=True):
        np.testing.assert_allclose(model.jnt_actfrcrange[model.joint(name).id], (-torque, torque))
    for i, mass in enumerate(LINK_MASSES):
        assert float(model.body(f"link{i}").mass[0]) == pytest.approx(mass)
    total = sum(LINK_MASSES) + 0.73 + 2 * 0.015  # hand and fingers
    assert model.body("link0").subtreemass[0] == pytest.approx(total)
    assert total == pytest.approx(17.45, abs=0.01)


def test_gravity_is_compensated(model: mujoco.MjModel) -> None:
    rng = np.random.default_rng(1)
    for _ in range(3):
        # a random posture near home, which touches nothing
        q = np.array(PANDA.home) + rng.uniform(-0.3, 0.3, 7)
        data = at(model, q)
        data.ctrl[:7] = q
        mujoco.mj_step(model, data, 500)
        np.testing.assert_allclose(data.qpos[:7], q, rtol=0, atol=1e-8)


def test_without_compensation_the_arm_would_sag() -> None:
    model = load_model(ASSETS / "reach.xml", 0.002, PANDA)
    model.body_gravcomp[:] = 0
    q = np.array(PANDA.home)
    data = at(model, q)
    data.ctrl[:7] = q
    mujoco.mj_step(model, data, 500)
    assert np.abs(data.qpos[:7] - q).max() > 5e-3


def test_fingers_move_together_even_when_one_is_pushed(model: mujoco.MjModel) -> None:
    data = at(model, np.array(PANDA.home))
    data.ctrl[:7] = PANDA.home
    finger = model.body("left_finger").id
    for opening in (0.04, 0.0, 0.02):
        data.ctrl[model.actuator(PANDA.gripper.actuator).id] = opening
        for push in (0.0, -20.0):  # N, along the finger's travel: inwards
            data.xfrc_applied[finger, :3] = data.body("left_finger").xmat.reshape(3, 3)[:, 1] * push
            mujoco.mj_step(model, data, 500)
            left, right = data.joint("finger_joint1").qpos, data.joint("finger_joint2").qpos
            assert abs(float(left[0] - right[0])) < 5e-4
            if push == 0.0:
                assert float(left[0]) == pytest.approx(opening, abs=1e-3)


@pytest.mark.parametrize("scene", ["reach.xml", "pick_place.xml"])
def test_visual_geoms_do_not_change_dynamics(scene: str) -> None:
    seen = load_model(ASSETS / scene, 0.002, PANDA)
    with scene_module._silent():
        spec = scene_module._parsed(ASSETS / scene)
        scene_module._attach(spec, PANDA)
        for geom in list(spec.geoms):
            if geom.group == 2:
                spec.delete(geom)
        bare = spec.compile()
    assert bare.ngeom < seen.ngeom / 2
    bare.opt.timestep = seen.opt.timestep
    bare.pair_solreffriction[:] = seen.pair_solreffriction
    rng = np.random.default_rng(0)
    ctrl = np.array(PANDA.home) + rng.uniform(-0.5, 0.5, (10, 7))
    ended = []
    for model in (seen, bare):
        data = at(model, np.array(PANDA.home))
        for target in ctrl:
            data.ctrl[:7], data.ctrl[7] = target, 0.04 * abs(target[0])
            mujoco.mj_step(model, data, 10)
        ended.append((data.qpos.copy(), data.qvel.copy()))
    np.testing.assert_array_equal(ended[0][0], ended[1][0])
    np.testing.assert_array_equal(ended[0][1], ended[1][1])
