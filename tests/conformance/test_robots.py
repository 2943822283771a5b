"""Every task that a robot declares to work on is solved by the task's own expert, with that robot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simscaleai.sim import list_envs, make_env, make_vec_env
from simscaleai.sim.robots.arm import Arm
from simscaleai.sim.robots.robot import find_robot, list_robots

ROBOTS = [name for name in list_robots() if not name.startswith("test-")]
PAIRS = [(task, name) for name in ROBOTS for task in find_robot(name).tasks]
EPISODES = 16


def solved(env: Any) -> np.ndarray:
    """Which episodes the expert of `env` solves, (n,)."""
    obs, _ = env.reset(seed=0)
    expert, done = env.task.expert(), np.zeros(env.num_envs, dtype=bool)
    for _ in range(120):
        obs, _, terminated, _, _ = env.step(expert.act(obs))
        done |= terminated
        if done.all():
            break
    return done


@pytest.mark.parametrize(("task", "robot"), PAIRS)
def test_the_expert_solves_the_task(task: str, robot: str) -> None:
    env = make_vec_env(task, EPISODES, robot=robot, dt=0.005, autoreset_mode="disabled")
    assert solved(env).sum() >= EPISODES - 1


@pytest.mark.parametrize(("task", "robot"), PAIRS)
def test_single_and_vector_environments_agree(task: str, robot: str) -> None:
    settings: dict[str, Any] = {"robot": robot, "dt": 0.005, "domain_randomization": True}
    env, envs = make_env(task, cameras=[], **settings), make_vec_env(task, 2, **settings)
    envs.reset(seed=2)
    env.reset(seed=3)
    rng = np.random.default_rng(0)
    for _ in range(10):
        action = rng.uniform(-1, 1, env.action_space.shape)
        obs, reward, *_ = env.step(action)
        batch, rewards, *_ = envs.step(np.stack([action, action]))
        assert reward == rewards[1]
        for key, value in obs.items():
            np.testing.assert_array_equal(value, batch[key][1])


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_contract_says_which_robot(robot: str) -> None:
    contract = make_env("reach", cameras=[], robot=robot).contract
    assert contract.env_config["robot"] == robot
    assert contract.obs_shapes["joint_pos"] == (len(find_robot(robot).arm_joints),)


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("task", ["reach", "pick_place"])
def test_the_joint_controller_solves_the_task(task: str, robot: str) -> None:
    settings = {"robot": robot, "controller": "joint", "dt": 0.005}
    env = make_vec_env(task, EPISODES, autoreset_mode="disabled", **settings)
    joints = find_robot(robot).arm_joints
    assert env.single_action_space.shape == (len(joints) + 1,)
    assert env.contract.action_names == (*joints, "gripper")
    assert solved(env).sum() >= EPISODES - 1


@pytest.mark.parametrize("robot", ROBOTS)
def test_home_points_straight_down_where_the_workspace_is(robot: str) -> None:
    env = make_env("reach", cameras=[], robot=robot)
    env.reset(seed=0)
    arm = Arm(env.model, find_robot(robot))
    down = np.diag([1.0, -1.0, -1.0])
    np.testing.assert_allclose(env.sim.site_xmat[0, arm.site].reshape(3, 3), down, atol=1e-6)
    place = env.sim.site_xpos[0, arm.site]
    assert (place > arm.workspace[0]).all() and (place < arm.workspace[1]).all()
    gripper = find_robot(robot).gripper
    assert arm.opening(env.sim)[0] == pytest.approx(2 * gripper.travel)


def test_every_built_in_task_has_a_robot() -> None:
    tried = {task for task, _ in PAIRS}
    assert tried >= {name for name in list_envs() if not name.startswith("test")}


def test_an_unknown_robot_or_controller(refused: Any) -> None:
    refused(lambda: make_env("reach", robot="ur5"), "robot", "'ur5'", "panda", "ur5e")
    refused(lambda: make_env("reach", controller="joints"), "controller", "joint", "end_effector")
