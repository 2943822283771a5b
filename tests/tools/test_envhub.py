"""Environments as LeRobot runs them; `scripts/check_lerobot.py` asks `lerobot-eval` itself."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from simscaleai.datagen import generate_dataset
from simscaleai.sim import make_vec_env
from simscaleai.storage.episodes import open_dataset
from simscaleai.tools.envhub import LeRobotEnv, make_env, vectorize

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


def test_a_solved_episode_is_a_success_and_its_neighbour_is_none() -> None:
    expert_env = make_vec_env("reach", 1, dt=0.01)
    made = make_env(2, task="reach", dt=0.01)
    made.reset(seed=[5, 6])
    expert = expert_env.task.expert()
    obs, _ = expert_env.reset(seed=5)
    expert.reset(np.ones(1, bool), [5])
    for _ in range(100):
        action = expert.act(obs)
        obs, *_ = expert_env.step(action)
        # no image is drawn where none is asked for
        shown, _, terminated, _, info = made.step(np.concatenate([action, 0 * action]))
        assert set(shown) == {"agent_pos"}
        if terminated[0]:
            break
        assert info["is_success"].tolist() == [False, False]
    assert info["final_info"]["is_success"].tolist() == [True, False]
    made.close()


def test_environments_may_be_wrapped_as_lerobot_wraps_them() -> None:
    """Its `FreezeAfterEpisodeEnd` repeats the last step of an environment until all have ended."""

    class Repeated(gym.Wrapper):
        last = None

        def reset(self, *, seed=None, options=None):
            if self.last is not None and not options:
                return self.last[0], self.last[-1]
            return self.env.reset(seed=seed, options=options)

        def step(self, action):
            if self.last is None:
                obs, reward, terminated, truncated, info = self.env.step(action)
                if terminated or truncated:
                    self.last = (obs, 0.0, terminated, truncated, info)
                return obs, reward, terminated, truncated, info
            return self.last

    lengths = iter((2, 4))

    def make() -> gym.Env:
        return Repeated(LeRobotEnv("reach", dt=0.01, max_episode_steps=next(lengths)))

    made = vectorize(make, 2, use_async_envs=False)
    made.reset(seed=[5, 6], options={"lerobot_new_rollout": True})
    assert made.call("_max_episode_steps") == (2, 4)
    assert all("target" in said for said in made.call("task_description"))
    assert made.metadata["render_fps"] == 20
    for step in range(4):
        obs, reward, _, truncated, info = made.step(np.zeros((2, 4), np.float32))
        assert truncated.tolist() == [step >= 1, step >= 3]
        assert (reward[0] == 0) == (step > 1)
        if truncated.any():
            assert info["final_info"]["is_success"].tolist() == [False, False]
            np.testing.assert_array_equal(obs["agent_pos"][0], info["final_obs"][0]["agent_pos"])
    made.close()


@pytest.mark.slow
def test_processes_of_their_own_are_asked_the_same() -> None:
    """What `lerobot-eval` does unless it is told otherwise."""
    made = make_env(2, use_async_envs=True, task="reach", cameras=("front_cam",), image_size=16)
    here = make_env(2, task="reach", cameras=("front_cam",), image_size=16)
    obs, _ = made.reset(seed=[3, 4], options={"lerobot_new_rollout": True})
    same, _ = here.reset(seed=[3, 4])
    for name in ("_max_episode_steps", "task", "task_description"):
        assert made.call(name) == here.call(name)
    assert made.metadata["render_fps"] == 20
    np.testing.assert_array_equal(obs["agent_pos"], same["agent_pos"])
    np.testing.assert_array_equal(obs["pixels"]["front_cam"], same["pixels"]["front_cam"])
    assert np.stack(made.call("render")).shape[0] == 2
    made.close()
    here.close()
