"""The Gymnasium loop and its six hooks, as a user's own subclass sees them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from simscaleai.sim import BaseRobotEnv, CameraConfig, SimConfig, make_env

PENDULUM = """<mujoco>
  <option gravity="0 0 -9.81"/>
  <worldbody>
    <body pos="0 0 1">
      <joint name="hinge" axis="0 1 0" damping="0.1"/>
      <geom type="capsule" size="0.02" fromto="0 0 0 0 0 -0.5" mass="1"/>
    </body>
    <camera name="eye" pos="0 -2 1" xyaxes="1 0 0 0 0 1"/>
  </worldbody>
  <actuator><motor joint="hinge" gear="5" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


class Pendulum(BaseRobotEnv):
    """A robot that has nothing to do with the Panda: the hooks and `self.data`, nothing else."""

    def _build_observation_space(self) -> spaces.Dict:
        return spaces.Dict({"angle": spaces.Box(-100.0, 100.0, (2,), np.float32)})

    def _build_action_space(self) -> spaces.Box:
        return spaces.Box(-1.0, 1.0, (self.model.nu,), np.float32)

    def _get_obs(self) -> dict[str, np.ndarray]:
        angle = np.concatenate((self.data.qpos, self.data.qvel)).astype(np.float32)
        return {"angle": angle}

    def _get_reward(self) -> float:
        return -float(np.cos(self.data.qpos[0]))

    def _is_terminated(self) -> bool:
        return bool(abs(self.data.qpos[0]) > 3.0)

    def _reset_task(self, rng: np.random.Generator) -> None:
        self.data.qpos[0] = rng.uniform(-0.5, 0.5)


@pytest.fixture
def config(tmp_path: Path) -> SimConfig:
    (tmp_path / "pendulum.xml").write_text(PENDULUM)
    return SimConfig(xml_path=str(tmp_path / "pendulum.xml"), cameras=[], max_episode_steps=50)


def test_a_users_subclass_is_a_clean_environment(config: SimConfig) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(Pendulum(config), skip_render_check=True)


def test_the_loop_applies_controls_and_counts_steps(config: SimConfig) -> None:
    env = Pendulum(config)
    obs, info = env.reset(seed=0)
    assert info["step"] == 0 and abs(obs["angle"][0]) <= 0.5 and obs["angle"][1] == 0
    for step in range(1, 51):
        obs, reward, _, truncated, info = env.step(np.array([0.3], np.float32))
        assert env.data.ctrl[0] == pytest.approx(0.3) and isinstance(reward, float)
        assert info["step"] == step and truncated == (step == 50)
    assert env.data.time == pytest.approx(50 * 0.05)
    # 1.5 Nm against 1 kg x 9.81 m/s^2 x 0.25 m x sin(angle)
    for _ in range(200):
        obs, *_ = env.step(np.array([0.3], np.float32))
    assert abs(obs["angle"][0]) == pytest.approx(np.arcsin(1.5 / (9.81 * 0.25)), abs=0.02)


def test_hooks_see_derived_fields_of_the_present_state(config: SimConfig) -> None:
    class Tip(Pendulum):
        def _build_observation_space(self) -> spaces.Dict:
            return spaces.Dict({"geom": spaces.Box(-9.0, 9.0, (3,), np.float32)})

        def _get_obs(self) -> dict[str, np.ndarray]:
            angle = self.data.qpos[0]
            expected = (-0.25 * np.sin(angle), 0.0, 1.0 - 0.25 * np.cos(angle))
            np.testing.assert_allclose(self.data.geom_xpos[0], expected, atol=1e-12)
            return {"geom": self.data.geom_xpos[0].astype(np.float32)}

    env = Tip(config)
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.array([1.0], np.float32))


def test_randomization_hook_runs_before_the_task_is_placed(config: SimConfig) -> None:
    order = []

    class Ordered(Pendulum):
        def _apply_domain_randomization(self, rng: np.random.Generator) -> None:
            order.append(("randomize", rng.random()))

        def _reset_task(self, rng: np.random.Generator) -> None:
            order.append(("task", rng.random()))

    Ordered(config).reset(seed=1)
    config.domain_randomization = True
    Ordered(config).reset(seed=1)
    names = [name for name, _ in order]
    assert names == ["task", "randomize", "task"]
    assert order[0] == order[2]  # where things start does not depend on randomization
    assert order[1][1] != order[2][1]


@pytest.mark.parametrize(
    ("action", "mentions"),
    [
        (np.full(4, np.nan), "NaN"),
        (np.array([0, np.inf, 0, 0]), "infinite"),
        (np.zeros(3), "(3,)"),
        (np.zeros((1, 4)), "(1, 4)"),
        (np.zeros(5), "(4,)"),
        (0.0, "()"),
    ],
)
def test_bad_actions(action: Any, mentions: str, refused: Callable[..., str]) -> None:
    env = make_env("reach", cameras=[], dt=0.005)
    env.reset(seed=0)
    before = env.data.qpos.copy()
    refused(lambda: env.step(action), "action", mentions)
    np.testing.assert_array_equal(env.data.qpos, before)


def test_actions_are_clipped_to_the_space() -> None:
    after = []
    for scale in (1.0, 50.0):
        env = make_env("reach", cameras=[], dt=0.005)
        env.reset(seed=0)
        env.step(np.array([1, -1, 1, -1]) * scale)
        after.append(env.data.qpos.tolist())
    assert after[0] == after[1]


BOXES = {
    "torque": (spaces.Box(-50, 50, (1,), np.float32), [30], [30]),
    "beyond": (spaces.Box(-50, 50, (1,), np.float32), [80], [50]),
    "asymmetric": (
        spaces.Box(np.array([0, -3]), np.array([2, 7]), dtype=np.float64),
        [-1, 6],
        [0, 6],
    ),
    "unbounded": (spaces.Box(-np.inf, np.inf, (2,), np.float64), [-1e9, 3], [-1e9, 3]),
    "half bounded": (spaces.Box(0, np.inf, (2,), np.float32), [-2, 1e6], [0, 1e6]),
    "whole numbers": (spaces.Box(0, 4, (1,), np.int64), np.array([3]), [3]),
    "bytes": (spaces.Box(0, 255, (2,), np.uint8), [300, -1], [255, 0]),
    "matrix": (spaces.Box(-9, 9, (2, 2), np.float32), [[1, 2], [-10, 4]], [[1, 2], [-9, 4]]),
    "scalar": (spaces.Box(-9, 9, (), np.float32), 5.5, 5.5),
    "none": (spaces.Box(-1, 1, (0,), np.float32), [], []),
}


@pytest.mark.parametrize("which", BOXES)
def test_actions_are_those_of_the_declared_space(which: str, config: SimConfig) -> None:
    space, action, expected = BOXES[which]

    class Own(Pendulum):
        def _build_action_space(self) -> spaces.Box:
            return space

        def _apply_action(self, action: np.ndarray) -> None:
            self.got = action

    env = Own(config)
    env.reset(seed=0)
    env.step(action)
    np.testing.assert_array_equal(env.got, expected)
    assert env.got.shape == space.shape
    assert env.got.dtype == (space.dtype if space.dtype.kind in "iu" else np.float64)


def test_a_space_that_is_set_later_counts(config: SimConfig) -> None:
    env = Pendulum(config)
    env.action_space = spaces.Box(-50, 50, (1,), np.float32)
    env.reset(seed=0)
    env.step(np.array([30], np.float32))
    assert env.data.ctrl[0] == 30


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(5),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
        spaces.Dict({"arm": spaces.Box(-1, 1)}),
        spaces.Tuple((spaces.Box(-1, 1),)),
    ],
)
def test_other_action_spaces_are_refused_when_the_environment_is_made(
    space: Any, config: SimConfig, refused: Callable[..., str]
) -> None:
    class Buttons(Pendulum):
        def _build_action_space(self) -> Any:
            return space

    refused(lambda: Buttons(config), str(space), "Box")


@pytest.mark.parametrize("action", [{"arm": 0}, ["left"], [[0.0], [0.0, 1.0]], None, 1j])
def test_actions_that_are_no_numbers(
    action: Any, config: SimConfig, refused: Callable[..., str]
) -> None:
    env = Pendulum(config)
    env.reset(seed=0)
    refused(lambda: env.step(action), "action", "(1,)")


def test_fractions_of_whole_numbers(config: SimConfig, refused: Callable[..., str]) -> None:
    class Whole(Pendulum):
        def _build_action_space(self) -> spaces.Box:
            return spaces.Box(0, 4, (1,), np.int64)

    env = Whole(config)
    env.reset(seed=0)
    refused(lambda: env.step([2.5]), "whole number")


def test_step_before_reset(refused: Callable[..., str]) -> None:
    env = make_env("reach", cameras=[])
    refused(lambda: env.step(np.zeros(4)), "reset")


def test_unknown_cameras_list_those_of_the_scene(refused: Callable[..., str]) -> None:
    known = ("front_cam", "overhead_cam", "observer_cam", "wrist_cam")
    env = make_env("reach", cameras=[])
    env.reset(seed=0)
    refused(lambda: env.render_camera("wristcam"), "'wristcam'", *known, "Did you mean 'wrist_cam'")
    configured = make_env("reach", cameras=[CameraConfig(name="ceiling")])
    refused(lambda: configured.reset(seed=0), "'ceiling'", *known)


def test_other_bad_settings(refused: Callable[..., str], config: SimConfig) -> None:
    refused(lambda: make_env("reach", "rgb", cameras=[]), "render_mode", "'rgb'", "rgb_array")
    refused(lambda: make_env("reach", cameras=[], max_episode_steps=0), "max_episode_steps")
    refused(lambda: Pendulum(SimConfig(cameras=[])), "xml_path")


def test_human_rendering_without_a_display(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    env = make_env("reach", render_mode="human", cameras=[])
    env.reset(seed=0)
    refused(env.render, "display", "rgb_array")


def test_close_can_be_called_twice() -> None:
    env = make_env("reach", cameras=[])
    env.reset(seed=0)
    env.close()
    env.close()


LIT = PENDULUM.replace(
    "<worldbody>",
    """<worldbody>
    <light name="lamp" pos="0 0 3" diffuse="0.5 0.5 0.5"/><light pos="1 0 3"/>
    <geom name="floor" type="plane" size="1 1 1" friction="0.8 0.01 0.001"/>""",
)


def lit(config: SimConfig, text: str = LIT, **settings: Any) -> Pendulum:
    Path(config.xml_path).write_text(text)
    return Pendulum(replace(config, domain_randomization=True, **settings))


def drawn(env: Any) -> dict[str, np.ndarray]:
    model = env.model
    fields = ("light_diffuse", "light_pos", "geom_friction")
    return {name: getattr(model, name).copy() for name in fields}


def test_lights_and_friction_of_whatever_the_model_has_are_randomized(config: SimConfig) -> None:
    env = lit(config, randomization_level="heavy")
    nominal = drawn(env)
    episodes = []
    for episode in range(60):
        _, info = env.reset(seed=7 if episode == 0 else None)
        found, draws = drawn(env), info["randomization"]
        assert set(draws) == {"light_brightness", "light_position", "friction"}
        # always of the model's own values: nothing drifts
        expected = {name: value.copy() for name, value in nominal.items()}
        expected["light_diffuse"] *= 1 + draws["light_brightness"]
        expected["light_pos"] += draws["light_position"]
        expected["geom_friction"][:, 0] *= 1 + draws["friction"]
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-6)
        assert abs(draws["friction"][0]) <= 0.6
        episodes.append(draws["friction"][0])
    assert len(set(episodes)) == 60 and max(episodes) > 0.4 and min(episodes) < -0.4
    # a function of the seed and the number of the episode
    again = lit(config, randomization_level="heavy")
    again.reset(seed=7)
    again.reset()
    assert again.reset()[1]["randomization"]["friction"][0] == episodes[2]
    # a copy goes on with its own model
    twin = copy.deepcopy(again)
    assert twin.reset()[1]["randomization"]["friction"][0] == episodes[3]
    assert again.reset()[1]["randomization"]["friction"][0] == episodes[3]
    np.testing.assert_array_equal(drawn(twin)["geom_friction"], drawn(again)["geom_friction"])


def test_randomization_starts_from_what_a_subclass_has_made_of_the_model(config: SimConfig) -> None:
    env = lit(config)
    env.model.geom_friction[:, 0] = 0.3
    draw = env.reset(seed=0)[1]["randomization"]["friction"][0]
    np.testing.assert_allclose(env.model.geom_friction[:, 0], 0.3 * (1 + draw))


def test_a_model_without_lights_and_geoms_has_nothing_to_randomize(config: SimConfig) -> None:
    bare = """<mujoco><worldbody><body><joint axis="0 1 0"/><inertial pos="0 0 1" mass="1"
        diaginertia="1 1 1"/></body></worldbody></mujoco>"""
    env = lit(config, bare)
    assert env.reset(seed=0)[1]["randomization"] == {}
    assert "randomization" not in Pendulum(config).reset(seed=0)[1]


def test_a_subclass_may_randomize_by_itself(config: SimConfig) -> None:
    class Own(Pendulum):
        def _apply_domain_randomization(self, rng: np.random.Generator) -> None:
            self.model.opt.gravity[2] = -rng.uniform(1, 2)

    env = Own(replace(config, domain_randomization=True))
    _, info = env.reset(seed=0)
    assert -2 < env.model.opt.gravity[2] < -1 and "randomization" not in info
