"""Gymnasium's own ways to our environments: ids, every kind of vector environment, wrappers, videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import vector as vector_wrappers

from simscaleai.errors import UserError
from simscaleai.sim import BaseRobotEnv, CameraConfig, SimConfig, make_vec_env

ID = "simscaleai/Reach-v0"
FAST: dict[str, Any] = {"dt": 0.005, "max_episode_steps": 3}
MODES = ["sync", "async", "vector_entry_point"]


@pytest.mark.parametrize("mode", MODES)
def test_every_vectorization_draws_its_seeds(mode: str) -> None:
    seeds = []
    for _ in range(2):
        envs = gymnasium.make_vec(ID, num_envs=2, vectorization_mode=mode, **FAST)
        _, info = envs.reset()
        assert info["seed"].dtype == np.int64
        seeds += info["seed"].tolist()
        for _ in range(5):  # over the end of the episodes
            envs.step(envs.action_space.sample())
        envs.close()
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_an_unseeded_single_environment_draws_below_2_63() -> None:
    env = gymnasium.make(ID, **FAST)
    _, info = env.reset()
    assert 0 <= info["seed"] < 2**63
    assert env.unwrapped.np_random_seed == info["seed"]
    assert env.reset()[1]["seed"] == info["seed"]  # its next episode


def test_ids_have_no_cameras_unless_asked(tmp_path: Path) -> None:
    single = gymnasium.make(ID)
    assert "image" not in single.observation_space.spaces
    for mode in ("sync", "vector_entry_point"):
        envs = gymnasium.make_vec(ID, num_envs=2, vectorization_mode=mode)
        assert envs.single_observation_space == single.observation_space
    camera = CameraConfig("front_cam", 16, 8)
    assert gymnasium.make(ID, cameras=[camera]).observation_space["image"].shape == (8, 16, 3)
    (tmp_path / "env.yaml").write_text("cameras: [{name: front_cam, width: 16, height: 8}]")
    configured = gymnasium.make(ID, config=str(tmp_path / "env.yaml"))
    assert configured.observation_space["image"].shape == (8, 16, 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda **kwargs: gymnasium.make(ID, **kwargs),
        lambda **kwargs: gymnasium.make_vec(ID, num_envs=1, vectorization_mode="sync", **kwargs),
        lambda **kwargs: gymnasium.make_vec(ID, num_envs=1, **kwargs),
    ],
    ids=["make", "sync", "vector"],
)
def test_an_unknown_keyword_is_a_user_error_and_a_type_error(make: Any) -> None:
    for error in (UserError, TypeError):  # TorchRL looks for these words in a TypeError
        with pytest.raises(error, match="unexpected keyword argument 'frameskip'"):
            make(frameskip=1)


def test_gymnasiums_enum_and_strings_name_the_autoreset_mode(refused: Callable[..., str]) -> None:
    for mode in (AutoresetMode.SAME_STEP, "SameStep", "same_step", "SAME_STEP"):
        envs = gymnasium.make_vec(ID, num_envs=2, autoreset_mode=mode)
        assert envs.unwrapped.autoreset_mode is AutoresetMode.SAME_STEP
    refused(lambda: gymnasium.make_vec(ID, autoreset_mode="always"), "'always'", "same_step")


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
@pytest.mark.parametrize("autoreset", list(AutoresetMode))
def test_gymnasiums_vector_wrappers(mode: str, autoreset: AutoresetMode) -> None:
    """The wrappers see the same in our vector environment as in Gymnasium's own."""
    if mode == "sync":
        envs = gymnasium.make_vec(
            ID,
            num_envs=2,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": autoreset},
            **FAST,
        )
    else:
        envs = gymnasium.make_vec(ID, num_envs=2, autoreset_mode=autoreset, **FAST)
    flat = (
        autoreset is not AutoresetMode.SAME_STEP
    )  # whose observations Gymnasium does not transform
    if flat:
        envs = vector_wrappers.FlattenObservation(envs)
    envs = vector_wrappers.RecordEpisodeStatistics(envs)
    envs = vector_wrappers.DictInfoToList(vector_wrappers.ClipReward(envs, -1.0, 1.0))
    envs.reset(seed=0)
    finished = 0
    for _ in range(3):
        obs, reward, _, truncated, infos = envs.step(np.full((2, 4), 0.1, np.float32))
        assert obs.shape == (2, 20) if flat else obs["ee_pos"].shape == (2, 3)
        assert (np.abs(reward) <= 1).all()
        finished += sum("episode" in info for info in infos)
        if autoreset is AutoresetMode.SAME_STEP and truncated.all():
            assert infos[0]["final_obs"]["ee_pos"].shape == (3,)
            assert infos[0]["step"] == 0 and infos[0]["final_info"]["step"] == 3
    assert truncated.all() and finished == 2


# frames and videos


def test_a_vector_environment_renders_what_the_single_one_does() -> None:
    single = gymnasium.make(ID, render_mode="rgb_array", **FAST)
    for cameras in ([], [CameraConfig("overhead_cam", 24, 16), CameraConfig("front_cam", 8, 8)]):
        single = gymnasium.make(ID, render_mode="rgb_array", cameras=cameras, **FAST)
        envs = make_vec_env("reach", 2, render_mode="rgb_array", cameras=cameras, **FAST)
        single.reset(seed=1)
        obs, _ = envs.reset(seed=0)
        frames = envs.render()
        assert isinstance(frames, tuple) and len(frames) == 2
        assert frames[1].dtype == np.uint8
        np.testing.assert_array_equal(frames[1], single.render())
        if cameras:
            np.testing.assert_array_equal(frames[1], obs["image"][1])
        else:
            assert frames[1].shape == (128, 128, 3)


def test_render_modes_of_a_vector_environment(refused: Callable[..., str]) -> None:
    assert make_vec_env("reach", 1).render() is None
    refused(lambda: make_vec_env("reach", 1, render_mode="human"), "'human'", "'rgb_array'")


@pytest.mark.parametrize("autoreset", list(AutoresetMode))
def test_record_video_of_a_vector_environment(tmp_path: Path, autoreset: AutoresetMode) -> None:
    pytest.importorskip("moviepy")
    envs = gymnasium.make_vec(
        ID, num_envs=3, render_mode="rgb_array", autoreset_mode=autoreset, **FAST
    )
    envs = vector_wrappers.RecordVideo(envs, str(tmp_path), episode_trigger=lambda k: k == 0)
    envs.reset(seed=0)
    for _ in range(4):
        *_, truncated, _ = envs.step(envs.action_space.sample())
        if autoreset is AutoresetMode.DISABLED and truncated.any():
            envs.reset(options={"reset_mask": truncated})
    envs.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]


def test_record_video_and_frame_lists_of_a_single_environment(tmp_path: Path) -> None:
    listed = gymnasium.make(ID, render_mode="rgb_array_list", **FAST)
    listed.reset(seed=0)
    listed.step(np.zeros(4, np.float32))
    assert len(listed.render()) == 2
    pytest.importorskip("moviepy")
    env = gymnasium.make(ID, render_mode="rgb_array", **FAST)
    env = wrappers.RecordVideo(env, str(tmp_path), episode_trigger=lambda k: True)
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.zeros(4, np.float32))
    env.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]


def length(env: Any) -> int:
    """How many steps the first episode has; 300 for more than that."""
    env.reset(seed=0)
    for step in range(1, 300):
        *_, terminated, truncated, _ = env.step(np.zeros(env.action_space.shape, np.float32))
        if np.any(terminated) or np.any(truncated):
            return step
    return 300


def test_episodes_are_as_long_as_gymnasium_is_asked_for() -> None:
    timing = {"dt": 0.005, "control_dt": 0.005}
    env = gymnasium.make(ID, max_episode_steps=250, **timing)
    assert length(env) == 250 == env.unwrapped.config.max_episode_steps
    assert env.unwrapped.contract.env_config["max_episode_steps"] == 250
    assert length(gymnasium.make(env.spec)) == 250
    assert length(gymnasium.make(ID, max_episode_steps=-1, **timing)) == 300  # no limit
    assert length(gymnasium.make(ID, max_episode_steps=4, **timing)) == 4
    assert length(gymnasium.make(ID, **timing)) == 200
    config = SimConfig(max_episode_steps=220, cameras=[], **timing)
    assert length(gymnasium.make(ID, config=config)) == 220
    assert length(gymnasium.make(ID, config=config, max_episode_steps=230)) == 230


@pytest.mark.parametrize("mode", MODES)
def test_episodes_of_a_vector_environment_are_as_long(mode: str) -> None:
    settings: Any = {"max_episode_steps": 210, "dt": 0.005, "control_dt": 0.005}
    envs = gymnasium.make_vec(ID, num_envs=1, vectorization_mode=mode, **settings)
    assert length(envs) == 210
    envs.close()


@pytest.mark.parametrize("control_dt, fps", [(0.05, 20), (0.02, 50), (0.1, 10), (0.03, 1 / 0.03)])
def test_films_run_in_real_time(control_dt: float, fps: float) -> None:
    timing: Any = {"dt": 0.005, "control_dt": control_dt}
    made = [gymnasium.make(ID, **timing), make_vec_env("reach", 1, **timing)]
    made += [gymnasium.make_vec(ID, num_envs=1, vectorization_mode="sync", **timing)]
    for env in made:
        assert env.metadata["render_fps"] == pytest.approx(fps, rel=1e-12)
        assert isinstance(env.metadata["render_fps"], int) == (fps == round(fps))
    assert BaseRobotEnv.metadata["render_fps"] == 20  # the class's, for 0.05 s
