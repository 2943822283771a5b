"""Copies of environments: `copy`, `deepcopy` and `pickle` simulate from where the original is."""

from __future__ import annotations

import copy
import functools
import pickle
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from simscaleai.sim import BaseRobotEnv, CameraConfig, SimConfig, make_env, make_vec_env

ACTION = np.array([0.3, 0.2, -0.1, 0], np.float32)
WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda env: pickle.loads(pickle.dumps(env)),
}
TASKS = ["reach", "pick_place", "reach_around", "pick_place_color"]

PENDULUM = """<mujoco><worldbody><body name="pole"><joint name="hinge" axis="0 1 0"/>
<geom type="capsule" fromto="0 0 0 0 0 .5" size=".03"/></body></worldbody>
<actuator><motor joint="hinge" ctrlrange="-50 50"/></actuator></mujoco>"""


def trace(env: Any, action: np.ndarray, steps: int = 3) -> list[Any]:
    """All that `steps` steps and a reset return, as bytes that compare."""
    taken = [env.step(action) for _ in range(steps)]
    return [pickle.dumps(plain(result)) for result in [*taken, env.reset()]]


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return np.asarray(value).tolist()


@pytest.fixture(params=WAYS)
def copied(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return WAYS[request.param]


@pytest.mark.parametrize("name", TASKS)
def test_a_copy_goes_on_from_where_the_original_is(name: str, copied: Callable[[Any], Any]) -> None:
    env = make_env(name, cameras=[], domain_randomization=True)
    env.reset(seed=3)
    env.step(ACTION)
    before = env.data.qpos.copy()
    twin = copied(env)
    ahead = trace(twin, ACTION)
    np.testing.assert_array_equal(env.data.qpos, before)  # which does not move the original
    assert trace(env, ACTION) == ahead


def test_a_copy_of_a_new_environment(copied: Callable[[Any], Any]) -> None:
    env = make_env("reach", cameras=[])
    twin = copied(env)
    assert plain(twin.reset(seed=3)[0]) == plain(env.reset(seed=3)[0])
    assert trace(twin, ACTION) == trace(env, ACTION)


@pytest.mark.parametrize("name", TASKS)
def test_copies_of_vector_environments(name: str, copied: Callable[[Any], Any]) -> None:
    envs = make_vec_env(name, 2, domain_randomization=True)
    actions = np.tile(ACTION, (2, 1))
    envs.reset(seed=3)
    envs.step(actions)
    twin = copied(envs)
    ahead = trace(twin, actions)
    assert trace(envs, actions) == ahead


def test_copies_with_wrappers(copied: Callable[[Any], Any]) -> None:
    env = gymnasium.make("simscaleai/Reach-v0", cameras=[])
    env.reset(seed=3)
    # a shallow copy of a wrapper is another wrapper of the same environment, as Gymnasium has it
    twin = copied(env) if copied is not copy.copy else copy.deepcopy(env)
    assert trace(twin, ACTION) == trace(env, ACTION)


@pytest.mark.parametrize("make", ["single", "vector"])
def test_a_copy_takes_its_own_pictures(make: str, copied: Callable[[Any], Any]) -> None:
    pytest.importorskip("warp")
    cameras = [CameraConfig("front_cam", 32, 32)]
    env: Any = (
        make_env("reach", cameras=cameras)
        if make == "single"
        else make_vec_env("reach", 1, cameras=cameras)
    )
    action = ACTION if make == "single" else ACTION[None]
    env.reset(seed=3)
    twin = copied(env)
    assert trace(twin, action, 1) == trace(env, action, 1)


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_of_simulations_and_tasks(way: str) -> None:
    single, vector = make_env("reach", cameras=[]), make_vec_env("reach", 1)
    for env, action in ((single, ACTION), (vector, ACTION[None])):
        env.reset(seed=3)
        sim, task = WAYS[way]((env.sim, env.task))
        task.controller.apply(sim, ACTION[None].astype(float))
        sim.step(25)
        assert not np.array_equal(sim.qpos, env.sim.qpos)
        env.step(action)
        np.testing.assert_array_equal(sim.qpos, env.sim.qpos)
        np.testing.assert_array_equal(sim.site_xpos, env.sim.site_xpos)
        twin = copy.copy(sim)
        twin.step(25)
        assert not np.array_equal(sim.qpos, twin.qpos)


class Pendulum(BaseRobotEnv):
    """A user's environment, which keeps windows into the simulation's memory."""

    def _build_observation_space(self) -> spaces.Box:
        self.angle = self.data.qpos
        self.parts = {"speed": [self.data.qvel[:1]], "names": ("hinge",)}
        self.parts_too = self.parts
        self.hinge = self.data.joint("hinge")
        self.mass = self.model.body_mass[1:]
        self.physics = self.model.opt
        return spaces.Box(-1e3, 1e3, (3,), np.float32)

    def _build_action_space(self) -> spaces.Box:
        return spaces.Box(-1, 1, (1,), np.float32)

    def _get_obs(self) -> np.ndarray:
        parts = (self.angle, self.parts["speed"][0], self.hinge.qpos)
        return np.concatenate(parts).astype(np.float32)

    def _get_reward(self) -> float:
        return -abs(float(self.hinge.qpos[0]))

    def _is_terminated(self) -> bool:
        return False

    def _reset_task(self, rng: np.random.Generator) -> None:
        self.angle[0] = rng.uniform(-0.5, 0.5)


@pytest.fixture
def pendulum(tmp_path: Path) -> Pendulum:
    (tmp_path / "pendulum.xml").write_text(PENDULUM)
    env = Pendulum(SimConfig(xml_path=str(tmp_path / "pendulum.xml"), cameras=[]))
    env.reset(seed=3)
    return env


def test_what_a_user_keeps_of_the_simulation_follows_the_copy(
    pendulum: Pendulum, copied: Callable[[Any], Any]
) -> None:
    action = np.array([0.5], np.float32)
    pendulum.step(action)
    twin = copied(pendulum)
    assert np.shares_memory(twin.angle, twin.data.qpos)
    assert np.shares_memory(twin.mass, twin.model.body_mass)
    assert np.shares_memory(twin.physics.gravity, twin.model.opt.gravity)
    assert twin.parts_too is twin.parts and twin.parts["names"] == ("hinge",)
    ahead = trace(twin, action)
    assert trace(pendulum, action) == ahead


class Holder:
    def __init__(self, value: Any) -> None:
        self.value = value


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def test_memory_that_a_copy_would_not_follow_is_refused(
    pendulum: Pendulum, refused: Callable[..., str]
) -> None:
    for hidden in (
        Holder(pendulum.data.qpos),
        Holder([pendulum.data.joint("hinge")]),
        Slotted(pendulum.data.qpos),
        deque([pendulum.data.qpos]),
        functools.partial(np.sum, pendulum.data.qpos),
        np.array([pendulum.data.qpos, None], dtype=object),
        lambda: pendulum.data.qpos,
    ):
        pendulum.helper = hidden
        refused(lambda: copy.deepcopy(pendulum), "Pendulum.helper", "__getstate__")
    pendulum.helper = Holder(pendulum)  # this follows
    assert copy.deepcopy(pendulum).helper.value is not pendulum


def test_an_attribute_that_cannot_be_copied_is_named(
    pendulum: Pendulum, refused: Callable[..., str]
) -> None:
    pendulum.contacts = pendulum.data.contact
    refused(lambda: copy.deepcopy(pendulum), "Pendulum.contacts", "__getstate__")
