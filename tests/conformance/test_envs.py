"""What every registered environment promises; one that is added is tested here without an edit."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common import env_checker as sb3

from simscaleai.observations import ObsSpec
from simscaleai.policy import RandomPolicy
from simscaleai.sim import list_envs, make_env, make_vec_env

ENVS = [name for name in list_envs() if not name.startswith("test-")]
FAST: dict[str, Any] = {"cameras": [], "dt": 0.005}
PICKING = {
    "reach_dist": float,
    "place_dist": float,
    "height": float,
    "grasped": bool,
    "lifted": bool,
}
FOLLOWING = {"wrong": bool, "wanted": int, "approached": int}
INFO: dict[str, dict[str, type]] = {
    "reach": {"distance": float},
    "pick_place": PICKING,
    "reach_color": {"distance": float, **FOLLOWING},
    "pick_place_color": {**PICKING, **FOLLOWING},
    "reach_around": {"distance": float, "hit": bool, "side": int},
    "reach_goal": {"distance": float},
    "pick_place_goal": PICKING,
    "sort": {**PICKING, **FOLLOWING, "wrong_place": bool, "request": int},
}
STATE_DIM = {
    "reach": 20,
    "pick_place": 28,
    "reach_color": 26,
    "pick_place_color": 42,
    "reach_around": 23,
    "reach_goal": 23,  # the place of the hand is in "observation" and in "achieved_goal"
    "pick_place_goal": 33,
    "sort": 48,
}


@pytest.fixture(params=ENVS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def env(name: str) -> Iterator[gymnasium.Env]:
    env = make_env(name, **FAST)
    yield env
    env.close()


def title(name: str) -> str:
    return "simscaleai/" + "".join(part.capitalize() for part in name.split("_")) + "-v0"


def as_list(obs: dict[str, np.ndarray]) -> dict[str, list[float]]:
    return {key: value.tolist() for key, value in obs.items()}


def rollout(env: Any, seed: int | None, steps: int = 15) -> list[Any]:
    """Everything an episode shows under actions that depend on nothing but the step."""
    obs, info = env.reset(seed=seed)
    shown: list[Any] = [as_list(obs), {k: v for k, v in info.items() if k != "randomization"}]
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 4)).astype(np.float32)
    for action in actions:
        obs, *rest = env.step(action)
        shown.append((as_list(obs), *rest))
    return shown


# checkers of the libraries that will drive it


def test_gymnasium_check_env_has_nothing_to_say(env: gymnasium.Env) -> None:
    # the render check opens windows and OpenGL, which not every machine has
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)


def test_stable_baselines_check_env_has_nothing_to_say(env: gymnasium.Env) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb3.check_env(env)


def test_gymnasium_makes_it_by_name(name: str) -> None:
    env = gymnasium.make(title(name), **FAST)
    obs, _ = env.reset(seed=3)
    expected, _ = make_env(name, **FAST).reset(seed=3)
    assert as_list(obs) == as_list(expected)
    envs = gymnasium.make_vec(title(name), num_envs=3, dt=0.005)
    obs, _ = envs.reset(seed=2)
    assert envs.num_envs == 3
    assert {k: v[1].tolist() for k, v in obs.items()} == as_list(expected)


# what it shows


def test_observations_are_float32_and_in_the_space(env: Any, name: str) -> None:
    obs, _ = env.reset(seed=0)
    for _ in range(5):
        assert env.observation_space.contains(obs)
        assert all(value.dtype == np.float32 for value in obs.values())
        obs, *_ = env.step(env.action_space.sample())
    spec = ObsSpec.of(obs)
    assert spec.shapes == env.contract.obs_shapes and spec.dtypes == env.contract.obs_dtypes
    assert spec.state_dim == STATE_DIM.get(name, spec.state_dim)


def test_observations_are_new_arrays(env: gymnasium.Env) -> None:
    obs, _ = env.reset(seed=0)
    before = as_list(obs)
    env.step(np.ones(4, np.float32))
    assert as_list(obs) == before


def test_info_has_the_documented_keys(env: gymnasium.Env, name: str) -> None:
    expected = {"step": int, **INFO.get(name, {}), "success": bool, "is_success": bool}
    _, first = env.reset(seed=0)
    *_, info = env.step(np.zeros(4, np.float32))
    for shown, step in ((first, 0), (info, 1)):
        assert {key: type(shown[key]) for key in expected} == expected
        assert shown["step"] == step and shown["is_success"] == shown["success"]
        assert all(type(value) is float for value in shown["reward_terms"].values())
    assert first["seed"] == 0


def test_vector_info_has_the_documented_keys(name: str) -> None:
    kinds = {int: "i", float: "f", bool: "b"}
    expected = {"step": int, **INFO.get(name, {}), "success": bool, "is_success": bool}
    envs = make_vec_env(name, 3, dt=0.005)
    envs.reset(seed=0)
    *_, info = envs.step(np.zeros((3, 4)))
    for key, kind in expected.items():
        assert info[key].shape == (3,) and info[key].dtype.kind == kinds[kind], key
        assert info[f"_{key}"].all()


# the reward


def episodes(name: str, policy: Any, steps: int, n: int) -> Iterator[tuple[Any, ...]]:
    """The environment and each step's results, but observations, for n rows that `policy` drives.

    A row whose episode is over stands still and earns nothing.
    """
    envs = make_vec_env(name, n, autoreset_mode="disabled", dt=0.005)
    obs, _ = envs.reset(seed=0)
    policy = policy(envs)
    policy.reset(np.ones(n, dtype=bool), range(n))
    for _ in range(steps):
        obs, *rest = envs.step(policy.act(obs))
        yield envs, *rest


POLICIES = {
    "random": lambda envs: RandomPolicy(envs.contract.action_dim),
    "expert": lambda envs: envs.task.expert(),
}


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_reward_is_the_weighted_sum_of_terms_and_never_pays_to_linger(
    name: str, policy: str
) -> None:
    over = np.zeros(6, dtype=bool)
    for envs, reward, terminated, _, info in episodes(name, POLICIES[policy], 40, 6):
        weights, terms = envs.task.reward_weights, info["reward_terms"]
        assert set(terms) == set(weights) and weights["success"] > 0
        total = sum(weights[term] * terms[term] for term in weights)
        np.testing.assert_allclose(reward, np.where(over, 0.0, total), rtol=0, atol=1e-12)
        over |= terminated
        for term, value in terms.items():
            assert weights[term] > 0
            if term == "success":
                np.testing.assert_array_equal(value, info["success"])
            else:
                assert value.max() <= 0.0, term


class Changed:
    """The expert with its aim (`gap` meters short of the target) or its speed changed."""

    def __init__(self, envs: Any, gap: float = 0.0, speed: float = 1.0) -> None:
        self.expert, self.gap, self.speed = envs.task.expert(), gap, speed
        self.start: np.ndarray | None = None

    def reset(self, mask: np.ndarray, seeds: Any) -> None:
        self.expert.reset(mask, seeds)

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        if self.gap and "desired_goal" in obs:
            obs = {**obs, "desired_goal": obs["desired_goal"].copy()}
            self._move(obs["desired_goal"][:, :3], obs["achieved_goal"][:, :3])
        elif self.gap and "target_pos" not in obs:  # one of several things: too high above it
            obs = {**obs, "ee_pos": obs["ee_pos"] - np.array([0, 0, self.gap], np.float32)}
        elif self.gap:
            obs = {**obs, "target_pos": obs["target_pos"].copy()}
            self._move(obs["target_pos"], obs.get("object_pos", obs["ee_pos"]))
        action = self.expert.act(obs)
        action[:, :3] *= self.speed
        return action

    def _move(self, target: np.ndarray, moved: np.ndarray) -> None:
        """Draw `target` back towards where `moved` was at the start."""
        if self.start is None:
            self.start = moved.copy()
        back = self.start - target
        target += back * (self.gap / np.linalg.norm(back, axis=1, keepdims=True))


def returns(name: str, policy: Any, n: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Each row's return over an episode that ends at success or after 100 steps, and its success."""
    total, solved = np.zeros(n), np.zeros(n, dtype=bool)
    for _, reward, terminated, _, _ in episodes(name, policy, 100, n):
        total[~solved] += reward[~solved]
        solved |= terminated
        if solved.all():
            break
    return total, solved


@cache
def of_expert(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The same for 25 rows of the expert."""
    return returns(name, POLICIES["expert"], n=25)


def test_finishing_beats_hovering_just_outside_success(name: str) -> None:
    expert, solved = (values[:8] for values in of_expert(name))
    hover, hover_solved = returns(name, lambda envs: Changed(envs, gap=0.04))
    hovered = solved & ~hover_solved
    assert hovered.sum() >= 6  # so that the comparison means something
    assert (expert > hover)[hovered].all()


def test_finishing_sooner_is_better(name: str) -> None:
    expert, solved = (values[:8] for values in of_expert(name))
    slow, slow_solved = returns(name, lambda envs: Changed(envs, speed=0.4))
    both = solved & slow_solved
    assert both.sum() >= 6
    assert (expert > slow)[both].all()


# episodes and seeds


@pytest.mark.parametrize("randomize", [False, True])
def test_a_seed_repeats_exactly_after_any_history(name: str, randomize: bool) -> None:
    fresh = make_env(name, domain_randomization=randomize, **FAST)
    used = make_env(name, domain_randomization=randomize, **FAST)
    for seed in (4, None, None):
        rollout(used, seed)
    used.reset()
    assert rollout(fresh, 7) == rollout(used, 7)
    # and so does what follows it
    assert rollout(fresh, None) == rollout(used, None)


def test_seeds_and_episodes_differ(env: gymnasium.Env) -> None:
    starts = [as_list(env.reset(seed=seed)[0]) for seed in (0, 1, None, None)]
    assert all(a != b for i, a in enumerate(starts) for b in starts[:i])


def test_seed_of_the_configuration_is_used_for_the_first_reset(name: str) -> None:
    starts = []
    plain, other = make_env(name, **FAST), make_env(name, seed=3, **FAST)
    for seed in (0, 5):
        configured = make_env(name, seed=seed, **FAST)
        start = as_list(configured.reset()[0])
        assert start == as_list(plain.reset(seed=seed)[0])
        assert as_list(configured.reset()[0]) != start  # the next episode, not the seed again
        assert as_list(configured.reset(seed=9)[0]) == as_list(other.reset(seed=9)[0])
        starts.append(start)
        rows = make_vec_env(name, 2, seed=seed, dt=0.005).reset()[0]
        assert {k: v[0].tolist() for k, v in rows.items()} == start
    assert starts[0] != starts[1]


def test_without_a_seed_two_environments_differ(name: str) -> None:
    a, b = (make_env(name, **FAST).reset()[0] for _ in range(2))
    assert as_list(a) != as_list(b)


def test_the_callers_action_is_not_changed(env: gymnasium.Env, name: str) -> None:
    env.reset(seed=0)
    action = np.array([3.0, -2.0, 0.5, 9.0], dtype=np.float64)
    env.step(action)
    assert action.tolist() == [3.0, -2.0, 0.5, 9.0]
    envs = make_vec_env(name, 2, max_episode_steps=1, dt=0.005)
    envs.reset(seed=0)
    actions = np.full((2, 4), 3.0)
    for _ in range(3):  # among them a step that starts new episodes
        envs.step(actions)
    assert (actions == 3.0).all()


def test_an_episode_is_truncated_at_its_limit(name: str) -> None:
    env = make_env(name, max_episode_steps=3, **FAST)
    env.reset(seed=0)
    ends = [env.step(np.zeros(4, np.float32))[3] for _ in range(3)]
    assert ends == [False, False, True]


# the expert


def test_the_expert_solves_it(name: str) -> None:
    assert of_expert(name)[1].sum() >= 24


def test_the_expert_remembers_nothing_between_steps(name: str) -> None:
    envs = make_vec_env(name, 4, dt=0.005)
    obs, _ = envs.reset(seed=0)
    used = envs.task.expert()
    for _ in range(25):
        copy = {key: value.copy() for key, value in obs.items()}
        actions = used.act(obs)
        np.testing.assert_array_equal(actions, envs.task.expert().act(obs))
        assert actions.dtype == np.float32 and np.abs(actions).max() <= 1
        for key, value in copy.items():
            np.testing.assert_array_equal(obs[key], value)  # it reads observations, and only that
        obs, *_ = envs.step(actions)
