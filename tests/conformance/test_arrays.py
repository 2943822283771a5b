"""Tasks, controllers, experts and rewards give the same numbers with every array library.

Each registered task is run with NumPy, and recorded; then each of its functions is called with the recorded
arrays as those of `array-api-strict`, which allows nothing but the standard, and of PyTorch. One that is
added is tested here without an edit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import array_api_compat.torch as torch
import array_api_strict as strict
import numpy as np
import pytest

from simscaleai.rl.rewards.rewards import (
    ActionPenalty,
    CompositeReward,
    DistanceReward,
    SuccessBonus,
)
from simscaleai.sim import list_envs, make_vec_env
from simscaleai.sim.physics import FIELDS

N = 4
LIBRARIES = {"strict": strict, "torch": torch}
# array-api-strict computes with NumPy, so that its numbers are the same to the last bit
TOLERANCE = {"strict": 0.0, "torch": 1e-6}


class ArraySim:
    """The fields of a simulation at one moment, as arrays of another library."""

    def __init__(self, sim: Any, xp: ModuleType) -> None:
        self.xp, self.device, self.n, self.model = xp, "cpu", sim.n, sim.model
        for name in FIELDS:
            setattr(self, name, convert(getattr(sim, name), xp))
        self.task_state = convert(sim.task_state, xp)
        self._diverged = convert(sim.diverged(), xp)

    def diverged(self) -> Any:
        return self._diverged


def convert(value: Any, xp: ModuleType) -> Any:
    if isinstance(value, dict):
        return {key: convert(item, xp) for key, item in value.items()}
    return xp.asarray(np.array(value))


def assert_same(found: Any, expected: Any, xp: ModuleType, tolerance: float) -> None:
    """`found` has arrays of `xp` with the values and data types of `expected`."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(found[key], value, xp, tolerance)
        return
    if isinstance(expected, tuple):
        for one, value in zip(found, expected, strict=True):
            assert_same(one, value, xp, tolerance)
        return
    assert type(found) is type(xp.asarray(0.0)), type(found)
    numbers = np.from_dlpack(found)
    assert numbers.dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(numbers, expected, rtol=tolerance, atol=tolerance)


CASES = [
    (name, controller)
    for name in list_envs()
    if not name.startswith("test-")
    for controller in ("end_effector", "joint")
]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def envs(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Envs in the middle of episodes."""
    name, controller = request.param
    made = make_vec_env(name, N, dt=0.005, domain_randomization=True, controller=controller)
    obs, _ = made.reset(seed=0)
    expert = made.task.expert()
    for _ in range(20):
        obs = made.step(expert.act(obs))[0]
    yield made
    made.close()


@pytest.fixture(params=LIBRARIES)
def xp(request: pytest.FixtureRequest) -> ModuleType:
    return LIBRARIES[request.param]


@pytest.fixture
def same(request: pytest.FixtureRequest, xp: ModuleType) -> Callable[[Any, Any], None]:
    """Compare with NumPy's results."""
    tolerance = TOLERANCE["strict" if xp is strict else "torch"]
    return lambda found, expected: assert_same(found, expected, xp, tolerance)


def moment(envs: Any) -> Any:
    """A copy of the simulations, which may be changed."""
    return copy.deepcopy(envs.sim)


def test_initial_state(envs: Any, xp: ModuleType, same: Any) -> None:
    u = np.random.default_rng(0).random((9, envs.task.num_uniforms))
    same(envs.task.initial_state(xp.asarray(u)), envs.task.initial_state(u))


def test_draws_of_randomization(envs: Any, xp: ModuleType, same: Any) -> None:
    randomizer = envs.core.randomizer
    u = np.random.default_rng(0).random((9, randomizer.num_uniforms))
    same(randomizer.draw(xp.asarray(u)), randomizer.draw(u))


@pytest.mark.parametrize("function", ["observe", "info", "measure"])
def test_what_is_read_from_a_simulation(
    envs: Any, xp: ModuleType, same: Any, function: str
) -> None:
    read = getattr(envs.task, function)
    same(read(ArraySim(envs.sim, xp)), read(envs.sim))


@pytest.mark.parametrize("unstable", [False, True])
def test_reward(envs: Any, xp: ModuleType, same: Any, unstable: bool) -> None:
    task, sim = envs.task, moment(envs)
    action = np.random.default_rng(0).uniform(-1, 1, envs.action_space.shape)
    other = ArraySim(sim, xp)
    info, other_info = task.measure(sim), task.measure(other)
    if unstable:
        info["diverged"] = np.arange(N) == 1
        other_info["diverged"] = xp.asarray(info["diverged"])
    terms, other_terms = (
        task.terms(sim, info, action),
        task.terms(other, other_info, xp.asarray(action)),
    )
    same(other_terms, terms)
    same(task.reward(other_terms), task.reward(terms))


def test_post_step(envs: Any, xp: ModuleType, same: Any) -> None:
    sim = moment(envs)
    sim.qpos[:] = sim.qpos[::-1].copy()  # so that there is something new
    sim.mocap_pos[:] = sim.mocap_pos[::-1].copy()
    other = ArraySim(sim, xp)
    envs.task.post_step(sim)
    envs.task.post_step(other)
    same(other.task_state, sim.task_state)


def test_controller(envs: Any, xp: ModuleType, same: Any) -> None:
    sim = moment(envs)
    other = ArraySim(sim, xp)
    action = np.random.default_rng(0).uniform(-1, 1, envs.action_space.shape)
    envs.task.controller.apply(sim, action)
    envs.task.controller.apply(other, xp.asarray(action))
    same(other.ctrl, sim.ctrl)
    same(other.task_state, sim.task_state)


def test_expert(envs: Any, xp: ModuleType, same: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    obs = envs.task.observe(envs.sim)
    task = envs.task
    expected = task.expert().act(obs)
    asks = bool(task.phrasings())  # for different things
    labels = task.actions_by_instruction(task.expert(), obs) if asks else None
    for owner in (envs.task, envs.task.controller):
        if hasattr(
            owner, "_sim"
        ):  # latents and joint angles are read from the env's own simulation
            monkeypatch.setattr(owner, "_sim", ArraySim(envs.sim, xp))
    same(envs.task.expert().act(convert(obs, xp)), expected)
    if asks:
        same(task.actions_by_instruction(task.expert(), convert(obs, xp)), labels)


def test_goals(xp: ModuleType, same: Any) -> None:
    for name in ("reach_goal", "pick_place_goal"):
        task = make_vec_env(name, N, dt=0.005).task
        rng = np.random.default_rng(0)
        width = 3 if name == "reach_goal" else 4
        achieved = rng.random((N, width))
        desired = achieved + rng.choice([0.0, 1.0], (N, 1))
        found = task.compute_reward(xp.asarray(achieved), xp.asarray(desired))
        same(found, task.compute_reward(achieved, desired))


def test_rewards_to_compose(xp: ModuleType, same: Any) -> None:
    rng = np.random.default_rng(0)
    obs = {name: rng.random((N, 3)) for name in ("ee_pos", "target_pos")}
    action = rng.uniform(-1, 1, (N, 4))
    reward = CompositeReward(
        [(DistanceReward(), 1.0), (SuccessBonus(threshold=0.5), 2.0), (ActionPenalty(), 1.0)]
    )
    found = reward.terms(convert(obs, xp), xp.asarray(action), {})
    same(found, reward.terms(obs, action, {}))
    one = reward.compute({k: v[0] for k, v in obs.items()}, action[0], {})
    other = reward.compute({k: xp.asarray(v[0]) for k, v in obs.items()}, xp.asarray(action[0]), {})
    assert type(one) is type(other) is float and other == pytest.approx(one, rel=1e-6)
