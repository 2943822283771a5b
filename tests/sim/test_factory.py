"""Environments by name: settings, YAML files, and what users register."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from simscaleai.sim import (
    BaseRobotEnv,
    CameraConfig,
    SimConfig,
    list_envs,
    make_env,
    make_vec_env,
    register_env,
)
from simscaleai.sim.envs.pick_place_env import PickPlaceEnv
from simscaleai.sim.envs.reach_env import ReachEnv
from simscaleai.sim.factory import sim_config
from simscaleai.sim.tasks.reach import Reach


def test_the_built_in_environments() -> None:
    assert {"reach", "pick_place"} <= set(list_envs())
    assert isinstance(make_env("reach", cameras=[]), ReachEnv)
    assert isinstance(make_env("pick_place", cameras=[]), PickPlaceEnv)
    assert isinstance(ReachEnv(SimConfig(cameras=[])), BaseRobotEnv)


def test_defaults_are_the_documented_ones() -> None:
    config = SimConfig()
    assert (config.xml_path, config.dt, config.control_dt) == ("", 0.002, 0.05)
    assert (config.max_episode_steps, config.domain_randomization) == (200, False)
    assert config.seed is None and config.cameras == [CameraConfig("wrist_cam", 128, 128, 60.0)]
    env = make_env("reach")
    assert env.config == config and env.observation_space["image"].shape == (128, 128, 3)


def test_vector_environments_start_without_cameras() -> None:
    assert make_vec_env("reach", 2).config.cameras == []
    assert "image" not in make_vec_env("reach", 2).single_observation_space.spaces


def test_a_yaml_file_drives_an_environment(tmp_path: Path) -> None:
    path = tmp_path / "env.yaml"
    path.write_text(
        "dt: 0.005\nmax_episode_steps: 7\nseed: 11\nik: jacobian_transpose\n"
        "domain_randomization: true\nrandomization_level: light\n"
        "cameras:\n- {name: front_cam, width: 64, height: 48}\n"
    )
    env = make_env("pick_place", config=str(path))
    assert env.config.cameras == [CameraConfig("front_cam", 64, 48)]
    assert env.observation_space["image"].shape == (48, 64, 3)
    assert (env.substeps, env.config.max_episode_steps, env.task.controller.ik) == (
        10,
        7,
        "jacobian_transpose",
    )
    # a keyword wins over the file
    env = make_env("pick_place", config=path, cameras=[], max_episode_steps=9)
    assert env.config.max_episode_steps == 9 and env.config.dt == 0.005
    _, info = env.reset()
    assert info["seed"] == 11 and "friction" in info["randomization"]
    envs = make_vec_env("pick_place", 2, config=path, cameras=[])
    assert envs.reset()[1]["randomization"]["friction"][0] == info["randomization"]["friction"]


def test_a_config_object_is_not_changed() -> None:
    config = SimConfig(dt=0.005, cameras=[])
    env = make_env("reach", config=config, max_episode_steps=5)
    assert env.config.max_episode_steps == 5 and env.config.dt == 0.005
    assert config == SimConfig(dt=0.005, cameras=[])
    assert sim_config(config) == config


@pytest.mark.parametrize("make", [make_env, lambda name, **kw: make_vec_env(name, 2, **kw)])
def test_unknown_names_and_values(make: Any, refused: Callable[..., str]) -> None:
    fast: dict[str, Any] = {"cameras": []}
    refused(lambda: make("raech", **fast), "'raech'", "pick_place, ", "Did you mean 'reach'")
    refused(lambda: make("reach", controldt=0.1, **fast), "'controldt'", "control_dt", "ik")
    with pytest.raises(TypeError, match="unexpected keyword argument 'controldt'"):
        make("reach", controldt=0.1, **fast)
    refused(lambda: make("reach", dt="fast", **fast), "'dt'", "'fast'")
    refused(lambda: make("reach", ik="dsl", **fast), "'dsl'", "dls, jacobian_transpose")
    refused(
        lambda: make("reach", domain_randomization=True, randomization_level="havy", **fast),
        "'havy'",
        "default, heavy, light",
    )
    refused(lambda: make("reach", max_episode_steps=0, **fast), "max_episode_steps")
    refused(lambda: make("reach", config="nowhere.yaml", **fast), "nowhere.yaml")


def test_settings_of_several_environments_are_not_for_one(refused: Callable[..., str]) -> None:
    for name, value in {"num_envs": 4, "num_threads": 1, "autoreset_mode": "disabled"}.items():
        refused(lambda n=name, v=value: make_env("reach", **{n: v}), name, "make_vec_env")


# what users register


class FarReach(Reach):
    """Reach from further away: a task of a user's own."""

    instructions = ("touch the green target from afar",)
    stages = ("too_far",)

    def info(self, sim: Any) -> dict[str, Any]:
        info = super().info(sim)
        return {**info, "success": info["distance"] < 0.1}


def test_a_registered_task_runs_alone_and_in_a_batch() -> None:
    register_env("test-far_reach", FarReach)
    assert "test-far_reach" in list_envs() and {"reach", "pick_place"} <= set(list_envs())
    env = make_env("test-far_reach", cameras=[], dt=0.005)
    envs = make_vec_env("test-far_reach", 2, dt=0.005, autoreset_mode="disabled")
    obs, _ = env.reset(seed=0)
    rows, _ = envs.reset(seed=0)
    expert = envs.task.expert()
    terminated = False
    while not terminated:
        actions = expert.act(rows)
        rows, reward, ended, *_ = envs.step(actions)
        obs, own_reward, terminated, _, info = env.step(actions[0])
        np.testing.assert_array_equal(obs["ee_pos"], rows["ee_pos"][0])
        assert own_reward == reward[0] and terminated == ended[0]
    assert 0.02 < info["distance"] < 0.1
    assert isinstance(make_env("reach", cameras=[]), ReachEnv)


def test_a_registered_environment_runs_and_is_known_to_gymnasium(refused: Any) -> None:
    class Mine(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

        def __init__(self, config: SimConfig, render_mode: str | None = None) -> None:
            self.config = config

    register_env("test-mine", Mine)
    env = make_env("test-mine", dt=0.01)
    assert isinstance(env, Mine) and env.config.dt == 0.01
    made = gymnasium.make("simscaleai/Test-mine-v0", dt=0.01)
    assert isinstance(made.unwrapped, Mine)
    refused(lambda: make_vec_env("test-mine", 2), "'test-mine'", "Task", "SyncVectorEnv")


def test_a_taken_name_is_refused(refused: Callable[..., str]) -> None:
    class Other(FarReach):
        pass

    refused(lambda: register_env("reach", Other), "'reach'", "taken", "ReachEnv")
    assert isinstance(make_env("reach", cameras=[]), ReachEnv)
    register_env("test-mine", FarReach)
    register_env("test-mine", FarReach)  # a module may be imported twice
    refused(lambda: register_env("test-mine", Other), "'test-mine'", "FarReach")


def test_a_name_that_gymnasium_cannot_take_leaves_nothing_behind(
    refused: Callable[..., str],
) -> None:
    refused(lambda: register_env("my env!", FarReach), "'my env!'")
    assert "my env!" not in list_envs()
    register_env("test-fine", FarReach)


PENDULUM = """<mujoco><worldbody><body><joint name="j" axis="0 1 0"/>
<geom type="capsule" fromto="0 0 0 0 0 .5" size=".03"/></body></worldbody></mujoco>"""


@dataclass
class PushConfig(SimConfig):
    """A user's own settings."""

    friction: float = 0.5


class PushEnv(BaseRobotEnv):
    """The documented pattern: a class that makes its own settings."""

    own: SimConfig

    def __init__(self, config: SimConfig | None = None, render_mode: str | None = None) -> None:
        if config is None:
            config = self.own
        super().__init__(config, render_mode)

    def _build_observation_space(self) -> gymnasium.spaces.Space[Any]:
        return gymnasium.spaces.Box(-1e3, 1e3, (1,), np.float64)

    def _build_action_space(self) -> gymnasium.spaces.Space[Any]:
        return gymnasium.spaces.Box(-1, 1, (0,), np.float32)

    def _get_obs(self) -> Any:
        return self.data.qpos.copy()

    def _get_reward(self) -> float:
        return 0.0

    def _is_terminated(self) -> bool:
        return False

    def _reset_task(self, rng: np.random.Generator) -> None:
        self.data.qpos[0] = rng.random()


@pytest.fixture
def push(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimConfig:
    """The settings that the registered environment `push` makes by itself."""
    (tmp_path / "push.xml").write_text(PENDULUM)
    own = PushConfig(str(tmp_path / "push.xml"), control_dt=0.1, max_episode_steps=30, cameras=[])
    monkeypatch.setattr(PushEnv, "own", own, raising=False)
    register_env("push", PushEnv)
    return own


def test_a_class_keeps_the_settings_that_it_makes_by_itself(
    push: PushConfig, tmp_path: Path
) -> None:
    assert make_env("push").config is push
    env = gymnasium.make("simscaleai/Push-v0")
    assert env.unwrapped.config is push and env.metadata["render_fps"] == 10
    env.reset(seed=0)
    env.step(np.zeros(0, np.float32))
    # what is given is changed in them
    expected = replace(push, dt=0.001, friction=0.7)
    assert make_env("push", dt=0.001, friction=0.7).config == expected
    assert gymnasium.make("simscaleai/Push-v0", dt=0.001, friction=0.7).unwrapped.config == expected
    made = gymnasium.make("simscaleai/Push-v0", max_episode_steps=9)
    assert made.unwrapped.config == replace(push, max_episode_steps=9)
    file = tmp_path / "push.yaml"
    file.write_text("dt: 0.001\nfriction: 0.7\n")
    assert make_env("push", config=file).config == expected
    # settings that name no scene get the class's
    scene = push.xml_path
    assert make_env("push", config=SimConfig(dt=0.01)).config == SimConfig(scene, dt=0.01)
    other = PushConfig(scene, friction=0.9)
    assert make_env("push", config=other, dt=0.01).config == replace(other, dt=0.01)


def test_a_class_whose_own_scene_is_not_there(
    push: PushConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Any
) -> None:
    monkeypatch.setattr(PushEnv, "own", SimConfig("path/to/push.xml"))
    refused(lambda: make_env("push"), "path/to/push.xml")
    scene = str(tmp_path / "push.xml")
    assert make_env("push", xml_path=scene, dt=0.01).config == SimConfig(scene, dt=0.01)


@pytest.mark.parametrize(
    "cameras", ["front_cam", ["front_cam"], None, CameraConfig("front_cam"), [None], 3]
)
def test_cameras_that_are_no_list_of_settings_are_named(
    cameras: Any, refused: Callable[..., str]
) -> None:
    wanted = ("cameras is", "list of CameraConfig", "[] for no images")
    refused(lambda: make_env("reach", cameras=cameras), *wanted)
    refused(lambda: make_vec_env("reach", 2, cameras=cameras), *wanted)
