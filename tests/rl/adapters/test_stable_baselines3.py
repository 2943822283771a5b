"""The adapter against the real Stable-Baselines3: what its own vector environment shows, and learning."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from stable_baselines3 import DDPG, PPO, HerReplayBuffer
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from simscaleai.errors import UserError
from simscaleai.rl.adapters.stable_baselines3 import SB3VecEnv
from simscaleai.sim import make_env, make_vec_env

FAST: dict[str, Any] = {"dt": 0.005, "cameras": [], "max_episode_steps": 4}


def ours(name: str = "reach", n: int = 3, **settings: Any) -> SB3VecEnv:
    return SB3VecEnv(make_vec_env(name, n, autoreset_mode="same_step", **{**FAST, **settings}))


def test_it_shows_what_their_own_vector_environment_does() -> None:
    theirs = DummyVecEnv([lambda: make_env("pick_place", **FAST)] * 3)
    mine = ours("pick_place")
    sync = SB3VecEnv(
        SyncVectorEnv([lambda: make_env("pick_place", **FAST)] * 3, autoreset_mode="SameStep")
    )
    actions = np.random.default_rng(0).uniform(-1, 1, (10, 3, 4)).astype(np.float32)
    shown = []
    for envs in (theirs, mine, sync):
        envs.seed(5)
        steps: list[Any] = [(envs.reset(), None, None, envs.reset_infos)]
        steps += [envs.step(action) for action in actions]
        shown.append((steps, envs.reset_infos))
    for found, reset_infos in shown[1:]:
        np.testing.assert_equal(found, shown[0][0])
        np.testing.assert_equal(reset_infos, shown[0][1])
    done, infos = shown[0][0][4][2:]
    assert done.all() and all(info["TimeLimit.truncated"] for info in infos)
    assert mine.step(actions[0])[1].dtype == np.float32


def test_attributes_methods_and_images() -> None:
    envs = ours("reach_goal", 3, render_mode="rgb_array")
    envs.reset()
    assert envs.get_attr("render_mode", [1]) == ["rgb_array"]
    assert envs.env_method("instruction", indices=[0, 2]) == ["reach the green target"] * 2
    assert (
        envs.env_method("compute_reward", np.zeros((5, 3)), np.ones((5, 3)), {}, indices=[0])[
            0
        ].tolist()
        == [-1.0] * 5
    )
    envs.set_attr("level", 1)
    envs.set_attr("level", 2, indices=[1])
    assert envs.get_attr("level") == [1, 2, 1]
    assert envs.has_attr("level") and not envs.has_attr("other")
    assert envs.env_is_wrapped(VecMonitor) == [False] * 3
    assert envs.render().shape == (256, 256, 3)  # their tiling of three frames


def test_another_autoreset_mode_is_refused() -> None:
    with pytest.raises(UserError, match='autoreset_mode="same_step"'):
        SB3VecEnv(make_vec_env("reach", 2))


def test_without_the_package_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.vec_env", None)
    monkeypatch.delitem(sys.modules, "simscaleai.rl.adapters.stable_baselines3")
    for error in (UserError, ImportError):
        with pytest.raises(error, match="pip install stable-baselines3"):
            importlib.import_module("simscaleai.rl.adapters.stable_baselines3")


def test_ppo_learns_normalizes_saves_and_is_evaluated(tmp_path: Path) -> None:
    envs = VecNormalize(VecMonitor(ours(n=4)))
    agent = PPO("MultiInputPolicy", envs, n_steps=8, batch_size=16, n_epochs=1, seed=0)
    agent.learn(64)
    assert len(agent.ep_info_buffer) == 16  # every four steps
    agent.save(tmp_path / "agent.zip")
    loaded = PPO.load(tmp_path / "agent.zip", env=envs)
    envs.training = False
    rewards, lengths = evaluate_policy(loaded, envs, 4, return_episode_rewards=True)
    assert lengths == [4] * 4 and np.isfinite(rewards).all()


@pytest.mark.parametrize("vector", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_hindsight_replay_learns_from_other_goals(vector: bool) -> None:
    settings: dict[str, Any] = {**FAST, "max_episode_steps": 10}
    agent = DDPG(
        "MultiInputPolicy",
        ours("reach_goal", 4, **settings) if vector else make_env("reach_goal", **settings),
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"goal_selection_strategy": "final"},
        learning_starts=40,
        batch_size=64,
        policy_kwargs={"net_arch": [8]},
        seed=0,
    )
    agent.learn(60)
    replayed = agent.replay_buffer.sample(256).rewards
    assert (replayed == 0).any()  # hindsight: a random arm reaches no goal of its own
