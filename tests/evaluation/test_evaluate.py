"""Closed-loop evaluation: what is counted, and where failures are said to happen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from simscaleai.datagen.recipe import episode_seed as dataset_seed
from simscaleai.errors import UserError
from simscaleai.evaluation.suite import episode_seed
from simscaleai.rl import EvalConfig, evaluate_policy
from simscaleai.sim import make_env, make_vec_env
from simscaleai.sim.tasks.colors import COLORS

KEYS = {
    "success_rate",
    "mean_reward",
    "std_reward",
    "mean_length",
    "min_reward",
    "max_reward",
    "success_ci",
    "success_at_end",
    "n_episodes",
    "failure_stages",
    "diverged",
    "episodes",
}
Act = Callable[[dict[str, np.ndarray]], np.ndarray]


def rows(name: str, n: int, **settings: Any) -> Any:
    settings = {"autoreset_mode": "disabled", "dt": 0.01, **settings}
    return make_vec_env(name, n, **settings)


def still(obs: dict[str, np.ndarray]) -> np.ndarray:
    return np.zeros((*obs["ee_pos"].shape[:-1], 4), dtype=np.float32)


def half_hearted(expert: Any) -> Act:
    """An expert that does not try where the target is on the left."""

    def act(obs: dict[str, np.ndarray]) -> np.ndarray:
        return np.where(obs["target_pos"][:, 1:2] > 0.0, 0, expert.act(obs))

    return act


@pytest.mark.parametrize(
    ("mode", "name"),
    [("disabled", "pick_place"), ("next_step", "reach"), ("same_step", "reach")],
)
def test_one_environment_and_many_agree_exactly(name: str, mode: str) -> None:
    config = EvalConfig(n_episodes=7, max_steps=60, seed=3)
    env = make_env(name, cameras=[], dt=0.01)
    act = half_hearted(env.task.expert())
    single = evaluate_policy(env, lambda obs: act({k: v[None] for k, v in obs.items()})[0], config)
    many = evaluate_policy(make_vec_env(name, 3, autoreset_mode=mode, dt=0.01), act, config)
    assert 0 < single["success_rate"] < 1  # so that both outcomes are compared
    assert single == many
    # and more rows than episodes
    assert evaluate_policy(rows(name, 9), act, config) == single


def test_result_is_documented_and_adds_up() -> None:
    env = rows("reach", 5)
    result = evaluate_policy(
        env, half_hearted(env.task.expert()), EvalConfig(n_episodes=12, max_steps=50)
    )
    assert set(result) == KEYS
    episodes = result["episodes"]
    assert [e["index"] for e in episodes] == list(range(12)) == list(range(result["n_episodes"]))
    rewards = np.array([e["reward"] for e in episodes])
    assert result["mean_reward"] == pytest.approx(rewards.mean())
    assert result["std_reward"] == pytest.approx(rewards.std())
    assert (result["min_reward"], result["max_reward"]) == (rewards.min(), rewards.max())
    assert result["mean_length"] == pytest.approx(np.mean([e["length"] for e in episodes]))
    wins = sum(e["success"] for e in episodes)
    assert result["success_rate"] == wins / 12
    assert result["success_at_end"] == sum(e["success_at_end"] for e in episodes) / 12
    assert result["success_ci"][0] < wins / 12 < result["success_ci"][1]
    assert sum(result["failure_stages"].values()) == 12 - wins
    assert all((e["stage"] is None) == e["success"] for e in episodes)
    json.dumps(result)  # plain values


def test_an_episode_is_what_the_environment_pays() -> None:
    env = make_env("reach", cameras=[], dt=0.01)
    expert = env.task.expert()

    def act(obs: dict[str, np.ndarray]) -> np.ndarray:
        return expert.act({k: v[None] for k, v in obs.items()})[0]

    episode = evaluate_policy(env, act, EvalConfig(n_episodes=1, seed=5))["episodes"][0]
    obs, _ = env.reset(seed=episode["seed"])
    total, steps, terminated = 0.0, 0, False
    while not terminated:
        obs, reward, terminated, *_ = env.step(act(obs))
        total, steps = total + reward, steps + 1
    assert (episode["reward"], episode["length"]) == (total, steps)
    assert episode["success"] and episode["success_at_end"]


def test_the_suite_depends_on_its_seed_alone() -> None:
    env = rows("reach", 4)
    act = half_hearted(env.task.expert())
    short, long, other = (
        evaluate_policy(env, act, EvalConfig(n_episodes=n, max_steps=40, seed=seed))["episodes"]
        for n, seed in ((6, 0), (9, 0), (6, 1))
    )
    assert long[:6] == short
    assert not {e["seed"] for e in other} & {e["seed"] for e in short}


def test_no_episode_of_a_dataset_is_evaluated() -> None:
    seen = {dataset_seed(s, i) for s in range(3) for i in range(2000)}
    asked = {episode_seed(s, i) for s in range(3) for i in range(500)}
    assert len(seen) == 6000 and len(asked) == 1500
    assert not seen & asked


def test_max_steps_ends_an_episode() -> None:
    for env in (rows("reach", 2), make_env("reach", cameras=[], dt=0.01)):
        result = evaluate_policy(env, still, EvalConfig(n_episodes=3, max_steps=7))
        assert [e["length"] for e in result["episodes"]] == [7, 7, 7]
    # the environment's own limit holds as well
    env = rows("reach", 2, max_episode_steps=5)
    result = evaluate_policy(env, still, EvalConfig(n_episodes=3, max_steps=7))
    assert result["mean_length"] == 5


def test_success_once_is_not_success_at_the_end() -> None:
    class Passing(gymnasium.Env):
        """Is at its goal at its second step and moves on."""

        action_space = observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            self.steps = 0
            return np.zeros(1, np.float32), {}

        def step(self, action: Any) -> Any:
            self.steps += 1
            there = {"success": self.steps == 2}
            return np.zeros(1, np.float32), 1.0, False, self.steps == 4, there

    result = evaluate_policy(Passing(), lambda obs: obs, EvalConfig(n_episodes=2))
    assert (result["success_rate"], result["success_at_end"]) == (1.0, 0.0)
    assert (result["mean_reward"], result["mean_length"]) == (4.0, 4.0)


# deterministic


def test_deterministic_is_passed_to_a_policy_that_takes_it() -> None:
    given = []

    def takes(obs: dict[str, np.ndarray], deterministic: bool = False) -> np.ndarray:
        given.append(deterministic)
        return still(obs)

    for value in (True, False):
        evaluate_policy(
            rows("reach", 1), takes, EvalConfig(n_episodes=1, max_steps=2, deterministic=value)
        )
    assert given == [True, True, False, False]
    # and `still` above takes none


# failure stages


def stages(policy: Any, n: int = 8) -> dict[str, int]:
    env = rows("pick_place", n, dt=0.005)  # a grasp that holds
    act = policy(env.task.expert())
    result = evaluate_policy(env, act, EvalConfig(n_episodes=n, max_steps=80))
    assert result["success_rate"] == 0 and result["success_ci"][0] == 0
    return result["failure_stages"]


def never_closes(expert: Any) -> Act:
    def act(obs: dict[str, np.ndarray]) -> np.ndarray:
        action = expert.act(obs)
        action[:, 3] = 1.0
        return action

    return act


def lets_go(expert: Any) -> Act:
    """Opens once the cube is 6 cm up, and gives up."""
    gone: list[Any] = []

    def act(obs: dict[str, np.ndarray]) -> np.ndarray:
        action = expert.act(obs)
        gone[:] = [(gone[0] if gone else False) | (obs["object_pos"][:, 2] > 0.06)]
        action[gone[0]] = (0, 0, 0, 1)
        return action

    return act


def brings_it_elsewhere(expert: Any) -> Act:
    """Holds the cube 6 cm above the table, beside the target."""

    def act(obs: dict[str, np.ndarray]) -> np.ndarray:
        start = np.array([0.5, 0.0, 0.15], np.float32)
        away = start - obs["target_pos"]
        away *= 0.08 / np.linalg.norm(away, axis=1, keepdims=True)
        return expert.act({**obs, "target_pos": obs["target_pos"] + away})

    return act


def test_failure_stages_of_bad_policies() -> None:
    assert stages(lambda expert: still) == {"never_reached": 8}
    assert stages(never_closes) == {"missed_grasp": 8}
    assert stages(lets_go) == {"dropped": 8}
    assert stages(brings_it_elsewhere) == {"misplaced": 8}
    result = evaluate_policy(rows("reach", 4), still, EvalConfig(n_episodes=4, max_steps=5))
    assert result["failure_stages"] == {"never_reached": 4}


# what a policy is told


def reaches(color: str) -> Act:
    """Goes to the sphere of one colour, whatever it is told."""

    def act(obs: dict[str, np.ndarray]) -> np.ndarray:
        action = still(obs)
        action[..., :3] = np.clip((obs[f"{color}_pos"] - obs["ee_pos"]) / 0.05, -1, 1)
        return action

    return act


@pytest.mark.parametrize("mode", ["disabled", "same_step"])
def test_episodes_are_counted_by_what_was_asked_for(mode: str) -> None:
    config = EvalConfig(n_episodes=16, max_steps=25, seed=1)
    many = make_vec_env("reach_color", 4, autoreset_mode=mode, dt=0.01)
    result = evaluate_policy(many, reaches("green"), config)
    assert set(result) == KEYS | {"categories", "following"}
    assert set(result["categories"]) == set(COLORS)
    for color, found in result["categories"].items():
        mine = [e for e in result["episodes"] if e["category"] == color]
        assert found["n_episodes"] == len(mine) > 0
        assert all(f" {color} " in f" {e['instruction']} " for e in mine)
        assert found["success_rate"] == (color == "green")
        wrong = {} if color == "green" else {"wrong_object": len(mine)}
        assert found["failure_stages"] == wrong
    assert result["success_rate"] == result["categories"]["green"]["n_episodes"] / 16
    one = make_env("reach_color", cameras=[], dt=0.01)
    assert evaluate_policy(one, reaches("green"), config) == result


@pytest.mark.parametrize("kind", [np.float32, np.int64, np.uint8])
def test_a_task_may_say_success_in_numbers(kind: Any, monkeypatch: Any) -> None:
    from simscaleai.sim.tasks.reach import Reach

    config = EvalConfig(n_episodes=4, max_steps=60, seed=3)
    env = make_env("reach", cameras=[], dt=0.01)
    expert = half_hearted(env.task.expert())
    wanted = evaluate_policy(rows("reach", 2), expert, config)
    measured = Reach.info
    monkeypatch.setattr(
        Reach,
        "info",
        lambda self, sim: {
            k: v.astype(kind) if k == "success" else v for k, v in measured(self, sim).items()
        },
    )
    assert evaluate_policy(rows("reach", 2), expert, config) == wanted
    one = make_env("reach", cameras=[], dt=0.01)
    act = lambda obs: expert({k: v[None] for k, v in obs.items()})[0]  # noqa: E731
    assert evaluate_policy(one, act, config) == wanted


# refusals


def test_unstable_physics_is_a_failure_with_a_stage_of_its_own() -> None:
    env = make_env("reach", cameras=[], dt=0.01)
    steps = []  # since the beginning; the first two episodes take eight

    def act(obs: dict[str, np.ndarray]) -> np.ndarray:
        steps.append(0)
        if len(steps) in (11, 14):
            env.data.qvel[0] = np.nan
        return np.zeros(4, np.float32)

    result = evaluate_policy(env, act, EvalConfig(n_episodes=5, max_steps=4))
    assert result["diverged"] == result["failure_stages"]["diverged"] == 2
    assert [e["length"] for e in result["episodes"]] == [4, 4, 3, 3, 4]
    stages = [e["stage"] for e in result["episodes"]]
    assert [stage == "diverged" for stage in stages] == [False, False, True, True, False]


class Breaking(gymnasium.Env):
    """Any environment: a success from the start, and unstable at the third step."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,))
    action_space = gymnasium.spaces.Box(0, 1, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.step_count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.step_count += 1
        diverged = self.step_count == 3
        return (
            np.zeros(1, np.float32),
            1.0,
            diverged,
            False,
            {"success": True, "diverged": diverged},
        )


def test_other_environments_may_say_that_physics_is_unstable() -> None:
    result = evaluate_policy(Breaking(), lambda obs: obs, EvalConfig(n_episodes=2))
    assert result["failure_stages"] == {"diverged": 2} and result["success_rate"] == 0.0
    assert evaluate_policy(Breaking(), lambda obs: obs, EvalConfig(2, max_steps=2))["diverged"] == 0


def test_rows_with_unstable_physics_never_were_a_success() -> None:
    envs = rows("reach", 4)
    envs.task.threshold = 10.0  # m
    steps = []

    def act(obs: dict[str, np.ndarray]) -> np.ndarray:
        steps.append(0)
        if len(steps) == 1:
            envs.sim.qvel[1, 0] = np.nan
        return still(obs)

    result = evaluate_policy(envs, act, EvalConfig(n_episodes=4))
    assert [e["success"] for e in result["episodes"]] == [True, False, True, True]
    assert result["failure_stages"] == {"diverged": 1}
    assert result["success_at_end"] == 0.75


def test_no_episodes_are_refused() -> None:
    with pytest.raises(UserError, match="n_episodes is 0"):
        evaluate_policy(rows("reach", 1), still, EvalConfig(n_episodes=0))


@pytest.mark.parametrize("make", [lambda: make_env("reach", cameras=[]), lambda: rows("reach", 2)])
def test_videos_need_pictures(make: Any, tmp_path: Path) -> None:
    config = EvalConfig(n_episodes=1, save_videos=True, video_dir=str(tmp_path / "v"), max_steps=3)
    with pytest.raises(UserError, match="rgb_array"):
        evaluate_policy(make(), still, config)
    assert not (tmp_path / "v").exists()


# checkpoints
