"""Environments as LeRobot runs them; `scripts/check_lerobot.py` asks `lerobot-eval` itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from simscaleai.datagen import generate_dataset
from simscaleai.sim import make_vec_env
from simscaleai.storage.episodes import open_dataset
from simscaleai.tools.envhub import make_env

SETTINGS = {"dt": 0.01, "max_episode_steps": 4}


@pytest.fixture
def env() -> Iterator[VectorEnv]:
    made = make_env(
        2, task="reach_color", cameras=("wrist_cam", "front_cam"), image_size=16, **SETTINGS
    )
    yield made
    made.close()


def test_what_lerobot_asks_of_an_environment(env: VectorEnv) -> None:
    """The calls of its `rollout`."""
    obs, _ = env.reset(seed=[3, 4], options={"lerobot_new_rollout": True})
    assert obs["agent_pos"].dtype == np.float32
    assert {k: v.shape for k, v in obs["pixels"].items()} == {
        "wrist_cam": (2, 16, 16, 3),
        "front_cam": (2, 16, 16, 3),
    }
    assert env.observation_space.contains(obs)
    assert env.call("_max_episode_steps")[0] == 4
    assert env.call("task") == ("reach_color", "reach_color")
    for said in env.call("task_description"):
        assert any(color in said for color in ("red", "green", "blue"))
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert env.envs[0].metadata["render_fps"] == 20
    assert env.envs[0].render().ndim == 3
    for _ in range(4):
        _, reward, terminated, truncated, info = env.step(np.full((2, 4), 3, np.float32))
    assert truncated.all() and not terminated.any() and reward.dtype == np.float64
    np.testing.assert_array_equal(info["final_info"]["is_success"], [False, False])


def test_observations_are_those_of_an_exported_dataset(tmp_path, env: VectorEnv) -> None:
    """State and images of the first step of an episode, as recorded with the same seed."""
    path = tmp_path / "data.h5"
    generate_dataset(
        "reach_color",
        1,
        str(path),
        "random",
        domain_randomization=False,
        max_steps=4,
        cameras=["wrist_cam", "front_cam"],
        image_size=16,
        env_kwargs={"dt": 0.01},
        show_progress=False,
    )
    with open_dataset(path) as data:
        obs, _ = env.reset(seed=[data.episodes[0].seed] * 2)
        vectors = [key for key in sorted(data.obs_keys) if len(data.shape(0, f"obs/{key}")) == 2]
        state = np.concatenate([data.read(0, f"obs/{key}", 0, 1) for key in vectors], axis=1)
        np.testing.assert_array_equal(obs["agent_pos"][:1], state)
        image = data.read(0, "obs/images/front_cam", 0, 1)
        np.testing.assert_array_equal(obs["pixels"]["front_cam"][:1], image)


def test_a_solved_episode_is_a_success() -> None:
    expert_env = make_vec_env("reach", 1, dt=0.01)
    made = make_env(1, task="reach", dt=0.01)
    made.reset(seed=[5])
    expert = expert_env.task.expert()
    obs, _ = expert_env.reset(seed=5)
    expert.reset(np.ones(1, bool), [5])
    for _ in range(100):
        action = expert.act(obs)
        obs, *_ = expert_env.step(action)
        _, _, terminated, _, info = made.step(action)
        if terminated[0]:
            break
    assert info["final_info"]["is_success"][0]
    made.close()
