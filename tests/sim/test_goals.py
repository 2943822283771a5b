"""The goal-conditioned form: the task it comes from, and a reward that is a function of the goals."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

from simscaleai.sim import make_env, make_vec_env, register_env
from simscaleai.sim.arrays import norm
from simscaleai.sim.goals import GoalConditioned
from simscaleai.sim.tasks.reach import Reach

FAST: dict[str, Any] = {"dt": 0.005, "cameras": []}
NAMES = ["reach", "pick_place"]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_task_in_another_form(name: str) -> None:
    """Same physics, success and end; observations hold the same numbers; and the expert solves it."""
    task = make_vec_env(name, 3, autoreset_mode="disabled", **FAST)
    form = make_vec_env(f"{name}_goal", 3, autoreset_mode="disabled", **FAST)
    expert = form.task.expert()
    obs, _ = task.reset(seed=0)
    goal_obs, _ = form.reset(seed=0)
    over = np.zeros(3, dtype=bool)
    while not over.all():
        found = form.task.task_observation(goal_obs)
        assert found.keys() == obs.keys()
        for key, value in obs.items():
            np.testing.assert_array_equal(found[key], value, err_msg=key)
        actions = expert.act(goal_obs)
        obs, _, terminated, _, info = task.step(actions)
        goal_obs, reward, goal_terminated, _, goal_info = form.step(actions)
        np.testing.assert_array_equal(goal_terminated, terminated)
        np.testing.assert_array_equal(goal_info["success"], info["success"])
        np.testing.assert_array_equal(reward, np.where(over, 0.0, terminated - 1.0))
        over |= terminated
    assert info["success"].all()


@pytest.mark.parametrize("name", NAMES)
def test_the_reward_is_computed_from_the_goals(name: str) -> None:
    single, envs = make_env(f"{name}_goal", **FAST), make_vec_env(f"{name}_goal", 4, **FAST)
    expert = envs.task.expert()
    obs, _ = envs.reset(seed=0)
    single.reset(seed=0)
    rewards = []
    for _ in range(40):
        actions = expert.act(obs)
        obs, reward, _, _, info = envs.step(actions)
        begun = info["_seed"] if "_seed" in info else np.zeros(4, bool)
        computed = envs.compute_reward(obs["achieved_goal"], obs["desired_goal"], info)
        assert computed.shape == (4,)
        np.testing.assert_array_equal(computed[~begun], reward[~begun])
        for i in range(4):  # one at a time, as a single environment is asked
            one = single.compute_reward(obs["achieved_goal"][i], obs["desired_goal"][i], {})
            assert np.ndim(one) == 0 and one == computed[i]
        rewards += reward[~begun].tolist()
    assert set(rewards) == {-1.0, 0.0}
    # any shape (..., g), and what was achieved is always a goal that is reached
    many = np.stack([obs["achieved_goal"]] * 2)
    assert envs.compute_reward(many, many).tolist() == [[0.0] * 4] * 2


def test_a_cube_must_have_been_lifted_unless_the_goal_does_not_ask_for_it() -> None:
    envs = make_vec_env("pick_place_goal", 1, **FAST)
    place = [0.5, 0.1, 0.02]
    pushed, carried = np.array([*place, 0.0]), np.array([*place, 1.0])
    assert envs.compute_reward(carried, carried) == envs.compute_reward(carried, pushed) == 0.0
    assert envs.compute_reward(pushed, pushed) == 0.0
    assert envs.compute_reward(pushed, carried) == -1.0
    far = carried + np.array([0.05, 0, 0, 0])
    assert envs.compute_reward(far, carried) == -1.0


def test_other_rewards(refused: Callable[..., str]) -> None:
    goal = np.zeros(3)
    sparse = make_env("reach_goal", reward="sparse", **FAST)
    assert sparse.compute_reward(goal, goal) == 1.0 and sparse.compute_reward(goal, goal + 1) == 0.0

    class Mine:
        def terms(self, obs: Any, action: Any, info: Any) -> dict[str, Any]:
            return {"mine": -info["distance"]}

    own = make_env("reach_goal", reward=Mine(), **FAST)
    refused(lambda: own.compute_reward(goal, goal), "reward=")


@pytest.mark.parametrize("make", [make_env, lambda name, **kw: make_vec_env(name, 2, **kw)])
def test_other_tasks_have_no_compute_reward(make: Any) -> None:
    """By this attribute Stable-Baselines3 knows goal-conditioned environments."""
    assert not hasattr(make("reach", **FAST), "compute_reward")
    assert hasattr(make("reach_goal", **FAST), "compute_reward")


def test_it_is_made_copied_and_sent_as_any_other() -> None:
    env = gymnasium.make("simscaleai/PickPlaceGoal-v0", dt=0.005)
    assert env.observation_space["desired_goal"].shape == (4,)
    env.reset(seed=0)
    for other in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        np.testing.assert_array_equal(
            other.step(np.ones(4, np.float32))[0]["observation"],
            copy.deepcopy(env).step(np.ones(4, np.float32))[0]["observation"],
        )
    camera = {"name": "front_cam", "width": 8, "height": 8}
    pictures = make_env("reach_goal", dt=0.005, cameras=[camera])
    assert sorted(pictures.observation_space) == [
        "achieved_goal",
        "desired_goal",
        "image",
        "observation",
    ]


class Near(Reach):
    """A task of a user's own."""

    name = "test-near"


class NearGoal(GoalConditioned, Near):
    """Its goal-conditioned form, with a goal in the plane: the target is seen, but for its height."""

    name = "test-near_goal"
    goal_keys = ("target_pos",)

    def goals(self, sim: Any) -> tuple[Any, Any]:
        return sim.site_xpos[:, self.controller.site], sim.mocap_pos[:, self.target]

    def reached(self, achieved: Any, desired: Any) -> Any:
        return norm((achieved - desired)[..., :2]) < 0.05


def test_a_task_of_a_users_own_gets_the_form() -> None:
    register_env("test-near_goal", NearGoal)
    envs = make_vec_env("test-near_goal", 2, autoreset_mode="disabled", **FAST)
    obs, _ = envs.reset(seed=0)
    expert = envs.task.expert()
    for _ in range(30):
        obs, _, terminated, _, info = envs.step(expert.act(obs))
    assert terminated.all() and info["success"].all() and (info["distance"] > 0.02).all()
    single = gymnasium.make("simscaleai/Test-nearGoal-v0", dt=0.005)
    single.reset(seed=0)
    assert single.step(np.zeros(4, np.float32))[1] == -1.0
