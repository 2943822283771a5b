"""Environments and policies of other packages in `evaluate_policy`."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from simscaleai.errors import UserError
from simscaleai.evaluation.suite import suite
from simscaleai.models import create_model
from simscaleai.models.policy import ModelPolicy
from simscaleai.rl import EvalConfig, evaluate_policy
from simscaleai.sim import make_env, make_vec_env

CONFIG = EvalConfig(n_episodes=5, max_steps=50)


class Env(gymnasium.Env):
    """Ends after `length` steps, pays 1 a step and says what `said` gives at a step."""

    observation_space: Any = spaces.Box(-1, 1, (3,), np.float32)
    action_space: Any = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, said: Callable[[int], Any] = lambda t: {}, length: int = 3) -> None:
        self.said, self.length, self.t = said, length, 0
        self.seeds: list[Any] = []

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.t = 0
        return self.look(), {}

    def look(self) -> Any:
        return np.zeros(3, np.float32)

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.t += 1
        return self.look(), 1.0, self.t >= self.length, False, self.said(self.t)


def still(obs: Any) -> Any:
    return np.zeros(2, np.float32)


def at_end(flag: Any) -> Callable[[int], Any]:
    return lambda t: {"success": flag} if t == 3 else {}


# success


@pytest.mark.parametrize("key", ["success", "is_success"])
@pytest.mark.parametrize(
    "flags",
    [
        (True, False),
        (np.float32(1), np.float32(0)),
        (np.array([True]), np.array([False])),
        (np.int64(1), 0),
        (np.array(1), np.array(0)),
        ("true", "False"),
        (torch.tensor([True]), torch.tensor([False])),
    ],
)
def test_success_of_any_kind(key: str, flags: tuple[Any, Any]) -> None:
    for flag, rate in zip(flags, (1.0, 0.0), strict=True):
        result = evaluate_policy(Env(lambda t, flag=flag: {key: flag}), still, CONFIG)  # type: ignore[misc]
        assert (result["success_rate"], result["success_at_end"]) == (rate, rate)
        assert (result["mean_reward"], result["mean_length"]) == (3.0, 3.0)


def test_an_env_that_never_says_is_not_one_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    result = evaluate_policy(Env(), still, CONFIG)
    assert all(np.isnan([result["success_rate"], result["success_at_end"], *result["success_ci"]]))
    assert {e["success"] for e in result["episodes"]} == {None} and result["mean_reward"] == 3
    (said,) = caplog.messages
    assert said.startswith("The environment 'Env' never said") and "'is_success'" in said
    # who says so now and then says of the others that they failed
    result = evaluate_policy(Env(at_end(True)), still, EvalConfig(n_episodes=2, max_steps=3))
    assert result["success_rate"] == 1
    short = Env(at_end(True))
    short.said = lambda t: {"success": True} if len(short.seeds) == 2 else {}
    assert evaluate_policy(short, still, EvalConfig(n_episodes=4))["success_rate"] == 0.25
    assert len(caplog.messages) == 1


def test_a_success_that_is_no_flag() -> None:
    with pytest.raises(UserError, match="'success', and 'perhaps' is neither true nor false"):
        evaluate_policy(Env(lambda t: {"success": "perhaps"}), still, CONFIG)


# their own attributes, seeds, rewards, interfaces


@pytest.mark.parametrize("value", ["PushT", object(), 3, lambda: "x"])
def test_attributes_of_the_names_of_ours(value: Any) -> None:
    env: Any = Env(lambda t: {"success": False})
    env.task = env.instruction = env.contract = value
    result = evaluate_policy(env, still, CONFIG)
    assert result["success_rate"] == 0 and result["failure_stages"] == {}

    class Follower:
        instruction = None

        def reset(self, mask: Any, seeds: Any) -> None:
            self.seeds = seeds

        def act(self, obs: Any) -> Any:
            return np.zeros((len(obs), 2), np.float32)

    assert evaluate_policy(env, Follower(), CONFIG)["n_episodes"] == 5


def test_their_seeds_have_31_bits_and_ours_are_what_they_were() -> None:
    env = Env()
    evaluate_policy(env, still, CONFIG)
    ours = suite(0, 5)
    assert env.seeds == [s % 2**31 for s in ours] and len(set(env.seeds)) == 5
    assert max(ours) > 2**32
    for mine in (make_env("reach", cameras=[]), make_vec_env("reach", 1)):
        assert suite(0, 5, mine) == ours
    for kind in (SyncVectorEnv, AsyncVectorEnv):
        inside = kind([lambda: make_env("reach", cameras=[])])
        assert suite(0, 5, inside) == ours
        inside.close()


@pytest.mark.parametrize(
    "reward", [np.array([1.0]), np.float32(1), 1, np.array(1), True, torch.ones(1)]
)
def test_rewards_of_one_number(reward: Any) -> None:
    class Pays(Env):
        def step(self, action: Any) -> Any:
            obs, _, *rest = super().step(action)
            return obs, reward, *rest

    assert evaluate_policy(Pays(at_end(True)), still, CONFIG)["mean_reward"] == 3


@pytest.mark.parametrize("reward", [np.ones(2), None, "1"])
def test_rewards_that_are_not_one_number(reward: Any) -> None:
    env = Env()
    env.step = lambda action: (np.zeros(3), reward, True, False, {})  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"'Env' gave the reward .* must be one number"):
        evaluate_policy(env, still, CONFIG)


def test_old_interfaces_are_named() -> None:
    env: Any = Env()
    env.reset = lambda seed=None: np.zeros(3)
    with pytest.raises(UserError, match="reset of 'Env' returned ndarray and not 2 values"):
        evaluate_policy(env, still, CONFIG)
    env.reset = lambda: np.zeros(3)
    with pytest.raises(UserError, match="reset of 'Env' takes no seed"):
        evaluate_policy(env, still, CONFIG)
    env = Env()
    env.step = lambda action: (np.zeros(3), 1.0, True, {})
    with pytest.raises(UserError, match="step of 'Env' returned 4 values and not 5"):
        evaluate_policy(env, still, CONFIG)


@pytest.mark.parametrize("env", [None, "reach", Env])
def test_what_is_no_environment(env: Any) -> None:
    with pytest.raises(UserError, match=r"env is .* has no reset; give a Gymnasium environment"):
        evaluate_policy(env, still, CONFIG)


def test_settings_may_be_a_mapping() -> None:
    given: Any = {"n_episodes": np.int64(2), "max_steps": 2}
    assert evaluate_policy(Env(at_end(True)), still, given)["n_episodes"] == 2
    given = {"n_episode": 2}
    with pytest.raises(UserError, match="Did you mean 'n_episodes'"):
        evaluate_policy(Env(), still, given)
    with pytest.raises(UserError, match="max_steps is 0"):
        evaluate_policy(Env(), still, EvalConfig(max_steps=0))


# observations


def shaped(space: Any) -> Env:
    env = Env(at_end(True))
    env.observation_space = space
    env.look = space.sample  # type: ignore[method-assign]
    return env


BOX = spaces.Box(-1, 1, (2,), np.float32)
SPACES = {
    "nested": spaces.Dict(robot=spaces.Dict(q=BOX, v=BOX), goal=BOX),
    "tuple": spaces.Tuple((BOX, spaces.Dict(a=BOX))),
    "scalar": spaces.Dict(a=BOX, t=spaces.Box(0, 1, (), np.float32)),
    "discrete": spaces.Dict(a=BOX, k=spaces.Discrete(4)),
    "bare discrete": spaces.Discrete(4),
    "matrix": spaces.Box(-1, 1, (2, 3), np.float64),
}


@pytest.mark.parametrize("name", SPACES)
def test_observations_of_any_structure(name: str) -> None:
    space = SPACES[name]
    seen: list[Any] = []

    def act(obs: Any) -> Any:
        seen.append(obs)
        return np.zeros(2, np.float32)

    assert evaluate_policy(shaped(space), act, CONFIG)["success_rate"] == 1
    assert all(space.contains(obs) for obs in seen)

    class Batched:
        def reset(self, mask: Any, seeds: Any) -> None: ...

        def act(self, obs: Any) -> Any:
            leaf = obs
            while isinstance(leaf, dict | tuple):
                leaf = leaf[0] if isinstance(leaf, tuple) else next(iter(leaf.values()))
            return np.zeros((len(leaf), 2), np.float32)

    env = SyncVectorEnv([lambda: shaped(space)] * 2)
    for where in (shaped(space), env):
        assert evaluate_policy(where, Batched(), CONFIG)["success_rate"] == 1


@pytest.mark.parametrize("vector", [False, True])
def test_nan_names_environment_key_and_step(vector: bool) -> None:
    class Broken(Env):
        def look(self) -> Any:
            return {"arm": {"q": np.full(3, np.nan if self.t == 2 else 0, np.float32)}}

        observation_space = spaces.Dict(arm=spaces.Dict(q=spaces.Box(-1, 1, (3,), np.float32)))

    env = SyncVectorEnv([Broken] * 2) if vector else Broken()
    act = (lambda obs: np.zeros((2, 2), np.float32)) if vector else still
    name = "SyncVectorEnv" if vector else "Broken"
    message = (
        rf"'{name}' gave NaN in the observation 'arm/q' after step 2 of episode 0 \(seed \d+\)"
    )
    with pytest.raises(UserError, match=message):
        evaluate_policy(env, act, CONFIG)
    # what nobody acts on does no harm
    last = Broken(at_end(True), length=2)
    last.said = lambda t: {"success": True}
    assert evaluate_policy(last, still, CONFIG)["success_rate"] == 1


# vector environments


def counting(k: int) -> Callable[[], Env]:
    """An env whose episodes have k steps, and that succeeds at its last."""
    return lambda: Env(lambda t: {"success": t == k}, length=k)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_vector_environments_of_gymnasium(mode: AutoresetMode, kind: Any) -> None:
    env = kind([counting(3), counting(5)], autoreset_mode=mode)
    act = lambda obs: np.zeros((2, 2), np.float32)  # noqa: E731
    try:
        result = evaluate_policy(env, act, EvalConfig(n_episodes=5))
    finally:
        env.close()
    lengths = [e["length"] for e in result["episodes"]]
    assert result["success_rate"] == 1.0 == result["success_at_end"]
    assert set(lengths) == {3, 5} and len(lengths) == 5
    assert [e["reward"] for e in result["episodes"]] == lengths
    assert [e["seed"] for e in result["episodes"]] == [s % 2**31 for s in suite(0, 5)]


def test_a_vector_environment_that_takes_one_seed() -> None:
    env = gymnasium.make_vec("CartPole-v1", num_envs=2, vectorization_mode="vector_entry_point")
    result = evaluate_policy(env, lambda obs: np.ones(2, np.int64), CONFIG)
    seeds = [e["seed"] for e in result["episodes"]]
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3] and result["mean_length"] > 5


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_our_environment_is_the_same_in_gymnasiums_vectors(mode: AutoresetMode) -> None:
    config = EvalConfig(n_episodes=3, max_steps=20, seed=1)
    expert = make_vec_env("reach", 1, dt=0.01).task.expert()

    def make() -> Any:
        return make_env("reach", cameras=[], dt=0.01)

    wanted = evaluate_policy(make(), expert, config)
    found = evaluate_policy(SyncVectorEnv([make] * 2, autoreset_mode=mode), expert, config)
    keys = ("seed", "success", "success_at_end", "length")
    for mine, theirs in zip(wanted["episodes"], found["episodes"], strict=True):
        assert [mine[k] for k in keys] == [theirs[k] for k in keys]
        assert mine["reward"] == pytest.approx(theirs["reward"])


# policies


def test_policies_of_all_kinds() -> None:
    space = spaces.Box(-1, 1, (3,), np.float32)
    model = create_model("bc", state_dim=3, action_dim=2, hidden_dim=8)

    class Theirs:
        """As Stable-Baselines3 has it; counts in its state how often it was called in an episode."""

        calls: list[tuple[Any, Any, bool]] = []

        def predict(
            self,
            obs: Any,
            state: Any = None,
            episode_start: Any = None,
            deterministic: bool = False,
        ) -> Any:
            state = 0 if episode_start.all() else state
            self.calls.append((state, episode_start.tolist(), deterministic))
            return np.zeros(2, np.float32), state + 1

    class Plain:
        def __call__(self, obs: Any) -> Any:
            return torch.zeros(2)

    class PerEpisode:
        begun = 0

        def reset(self) -> None:
            self.begun += 1

        def act(self, obs: Any) -> Any:
            assert obs.shape == (3,)
            return [0.0, 0.0]

    theirs, own = Theirs(), PerEpisode()
    policies = [
        ModelPolicy(model),
        ModelPolicy(model).act,
        model,
        theirs,
        theirs.predict,
        Plain(),
        own,
    ]
    for policy in policies:
        env = Env(at_end(True))
        assert env.observation_space == space
        assert evaluate_policy(env, policy, EvalConfig(n_episodes=2))["success_rate"] == 1
    assert [c[0] for c in theirs.calls] == [0, 1, 2] * 4
    assert {c[2] for c in theirs.calls} == {True} and own.begun == 2
    with pytest.raises(UserError, match="predict_fn is the class ModelPolicy"):
        evaluate_policy(Env(), ModelPolicy, CONFIG)
    with pytest.raises(UserError, match=r"cannot act on observations of 'state' \(3,\)"):
        evaluate_policy(Env(), create_model("bc", state_dim=7, action_dim=2), CONFIG)
    with pytest.raises(UserError, match="predict_fn is 3"):
        evaluate_policy(Env(), 3, CONFIG)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("action", "message"),
    [(np.zeros(7), r"shape \(7,\), and the environment takes \(2,\)"), ([0, np.nan], "not finite")],
)
def test_actions_that_are_none(action: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate_policy(Env(), lambda obs: action, CONFIG)


def test_discrete_actions_come_as_numbers() -> None:
    env = Env(at_end(True))
    env.action_space = spaces.Discrete(3)
    for action in (1, np.array([2]), (np.array(0), None)):
        assert evaluate_policy(env, lambda obs, a=action: a, CONFIG)["success_rate"] == 1  # type: ignore[misc]
    with pytest.raises(UserError, match=r"the action 5, .* whole numbers from 0 to 2"):
        evaluate_policy(env, lambda obs: 5, CONFIG)


def test_results_are_plain_values(tmp_path: Path) -> None:
    json.dumps(evaluate_policy(Env(lambda t: {"success": np.float32(1)}), still, CONFIG))


def test_videos_of_their_environments(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    env: Any = Env(at_end(True))
    env.metadata = {"render_fps": None}
    env.render_mode, env.render = "rgb_array", lambda: np.zeros((32, 48, 3), np.uint8)
    folder = tmp_path / "films"
    evaluate_policy(env, still, EvalConfig(n_episodes=1, save_videos=True, video_dir=folder))  # type: ignore[arg-type]
    assert [p.name for p in folder.iterdir()] == ["episode_0.mp4"]


@pytest.mark.parametrize("name", SPACES)
def test_agents_act_as_they_learned_whatever_the_observation(name: str, tmp_path: Path) -> None:
    from simscaleai.rl.agents.ppo import PPOAgent, PPOConfig

    widths = {"nested": 6, "tuple": 4, "scalar": 3, "discrete": 3, "bare discrete": 1, "matrix": 6}

    def make() -> Env:
        env = shaped(deepcopy(SPACES[name]))
        env.action_space = spaces.Box(-2, 2, (2,), np.float32)
        first, then = env.reset, env.step

        def reset(*, seed: Any = None, options: Any = None) -> Any:
            env.observation_space.seed(seed)
            return first(seed=seed)

        env.reset = reset  # type: ignore[method-assign]
        env.step = lambda action: pays(then(action), action)  # type: ignore[method-assign]
        return env

    def pays(result: Any, action: Any) -> Any:
        return result[0], float(action[0]), *result[2:]

    agent = PPOAgent(widths[name], 2, PPOConfig(total_timesteps=8, n_steps=8, n_epochs=1))
    agent.train(make())
    agent.save(tmp_path / "agent.pt")
    saved = ModelPolicy.from_checkpoint(tmp_path / "agent.pt")
    config = EvalConfig(n_episodes=3)
    found = [
        evaluate_policy(env, policy, config)["mean_reward"]
        for policy in (agent, agent.predict, saved, saved.act)
        for env in (make(), SyncVectorEnv([make] * 2))
    ]
    assert found == pytest.approx([found[0]] * 8, abs=1e-5) and found[0] != 0
