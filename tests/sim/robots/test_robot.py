"""Robots as values: what one must say, and an arm of a user whose every name is another."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from simscaleai.datagen import generate_dataset, validate_dataset
from simscaleai.errors import MissingFileError
from simscaleai.sim import make_env, make_vec_env
from simscaleai.sim.robots import robot as robots
from simscaleai.sim.robots.panda import PANDA
from simscaleai.sim.robots.robot import Robot, find_robot, register_robot
from simscaleai.sim.robots.ur5e import UR5E
from simscaleai.storage.episodes import open_dataset

# Denavit-Hartenberg parameters of the UR5e, universal-robots.com: a, d (m) and alpha (rad) of joints 1 to 6.
DH = (
    (0.0, 0.1625, np.pi / 2),
    (-0.425, 0.0, 0.0),
    (-0.3922, 0.0, 0.0),
    (0.0, 0.1333, np.pi / 2),
    (0.0, 0.0997, -np.pi / 2),
    (0.0, 0.0996, 0.0),
)


@pytest.fixture
def other(tmp_path: Path) -> Robot:
    """A registered robot of a user: another name for everything, no site, and angles in degrees."""
    text = (robots.ASSETS / "ur5e.xml").read_text()
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r'\s*<site name="tcp"[^>]*>', "", text)
    actuators, rest = re.findall(r"<actuator>.*</actuator>", text, re.S)[0], text
    renamed = re.sub(r'name="(\w+)_joint"', r'name="drive_\1"', actuators)
    text = rest.replace(actuators, renamed)
    text = text.replace('"ur_', '"robo_').replace("_joint", "_axis").replace("_slide", "_jaw")
    text = text.replace('name="robo_gripper" class', 'name="jaws" class')
    text = text.replace('<compiler angle="radian"/>', '<compiler angle="degree"/>')
    text = text.replace("6.28318531", "360").replace("3.14159265", "180")
    (tmp_path / "robo.xml").write_text(text)
    robot = replace(
        UR5E,
        name="robo",
        mjcf=tmp_path / "robo.xml",
        arm_joints=tuple(name.replace("_joint", "_axis") for name in UR5E.arm_joints),
        arm_actuators=tuple("drive_" + n.removesuffix("_joint") for n in UR5E.arm_joints),
        gripper=replace(
            UR5E.gripper, joints=("left_finger_jaw", "right_finger_jaw"), actuator="jaws"
        ),
        ee_site="tool",
        ee_body="robo_gripper",
        ee_pos=(0.0, 0.0, 0.15),
        geoms={"left_pad": "robo_left_pad", "right_pad": "robo_right_pad"},
        randomization=None,
    )
    register_robot(robot)
    return robot


def test_an_arm_with_other_names_moves_as_the_same_arm(other: Robot) -> None:
    envs = [make_vec_env("pick_place", 2, robot=name, dt=0.005) for name in ("ur5e", "robo")]
    names = {envs[1].model.joint(i).name for i in range(envs[1].model.njnt)}
    assert not names & set(UR5E.arm_joints)
    observed = []
    for env in envs:
        obs, _ = env.reset(seed=0)
        for _ in range(30):
            obs, *_ = env.step(env.task.expert().act(obs))
        observed.append(obs)
    for key, value in observed[0].items():
        np.testing.assert_allclose(observed[1][key], value, atol=1e-5)


def test_an_arm_with_other_names_goes_through_data_generation(other: Robot, tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    settings: dict[str, Any] = {"policy_type": "scripted", "max_steps": 60, "workers": 2}
    result = generate_dataset("reach", 4, str(path), robot="robo", show_progress=False, **settings)
    assert result["success_rate"] == 1.0
    with open_dataset(path) as data:
        assert data.contract is not None and data.contract.env_config["robot"] == "robo"
    assert not validate_dataset(path).errors


def test_randomization_follows_the_robot(other: Robot) -> None:
    env = make_env("reach", robot="robo", cameras=[], domain_randomization=True)
    nominal = env.model.dof_damping.copy()
    draws = env.reset(seed=0)[1]["randomization"]
    assert {"joint_damping", "actuator_gain", "arm_posture"} <= set(draws)
    ratio = env.model.dof_damping[env.task.controller.qvel] / nominal[env.task.controller.qvel]
    np.testing.assert_allclose(ratio, 1 + draws["joint_damping"][0])


def test_forward_kinematics_of_the_ur5e_follow_the_published_table() -> None:
    model = make_env("reach", robot="ur5e", cameras=[]).model
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    turned = np.diag([-1.0, -1.0, 1.0])  # the base of the MJCF against that of the table
    for _ in range(20):
        q = rng.uniform(-np.pi, np.pi, 6)
        data.qpos[:6] = q
        mujoco.mj_kinematics(model, data)
        pose = np.eye(4)
        for angle, (a, d, alpha) in zip(q, DH, strict=True):
            (c, s), (ca, sa) = (np.cos(angle), np.sin(angle)), (np.cos(alpha), np.sin(alpha))
            link = [[c, -s * ca, s * sa, a * c], [s, c * ca, -c * sa, a * s], [0, sa, ca, d]]
            pose = pose @ np.array([*link, [0, 0, 0, 1]])
        flange = data.body("ur_wrist_3")
        np.testing.assert_allclose(flange.xpos, turned @ pose[:3, 3], atol=1e-9)
        np.testing.assert_allclose(flange.xmat.reshape(3, 3), turned @ pose[:3, :3], atol=1e-9)


def test_masses_of_the_ur5e_are_the_published_ones() -> None:
    model = make_env("reach", robot="ur5e", cameras=[]).model
    links = ("shoulder", "upper_arm", "forearm", "wrist_1", "wrist_2", "wrist_3")
    masses = [model.body(f"ur_{link}").mass[0] for link in links]
    np.testing.assert_allclose(masses, (3.761, 8.058, 2.846, 1.37, 1.3, 0.365))


def test_a_robot_says_one_number_for_each_joint(refused: Callable[..., str]) -> None:
    refused(lambda: replace(PANDA, home=(0.0, 1.0)), "'panda'", "7 arm_joints", "2 home")


def test_what_a_robot_lacks(refused: Callable[..., str], tmp_path: Path) -> None:
    refused(lambda: PANDA.pose("folded"), "'panda'", "folded", "near")
    register_robot(replace(PANDA, name="nowhere", mjcf=tmp_path / "none.xml"))
    with pytest.raises(MissingFileError, match=r"none\.xml"):
        make_env("reach", robot="nowhere")
    register_robot(replace(PANDA, name="headless", ee_body="neck", ee_site="nose"))
    refused(lambda: make_env("reach", robot="headless"), "headless", "neck")
    wrong = (*PANDA.arm_joints[:6], "joint9")
    register_robot(replace(PANDA, name="wrong", arm_joints=wrong, randomization=None))
    refused(lambda: make_env("reach", robot="wrong"), "'wrong'", "joint9")


def test_a_name_is_taken_once(refused: Callable[..., str]) -> None:
    register_robot(PANDA)  # the same again
    assert find_robot("panda") is PANDA
    refused(lambda: register_robot(replace(UR5E, name="panda")), "panda", "taken")
