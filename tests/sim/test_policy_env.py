"""A user's own `BaseRobotEnv` in every command: n of them act as n single ones, and in [-1, 1]."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from simscaleai.datagen import generate_dataset, validate_dataset
from simscaleai.evaluation.evaluate_source import SourceEvaluation, evaluate_source
from simscaleai.policy import RandomPolicy
from simscaleai.sim import BaseRobotEnv, SimConfig, factory, make_env, make_vec_env, register_env
from simscaleai.sim.policy_env import PolicyEnv
from simscaleai.storage.episodes import open_dataset
from simscaleai.tools.live import load_player

XML = """<mujoco><worldbody><body><joint name="j" axis="0 1 0" damping="1"/>
<geom type="capsule" fromto="0 0 0 0 0 .5" size=".03"/></body></worldbody>
<actuator><motor joint="j" ctrlrange="-50 50"/></actuator></mujoco>"""
NAME = "hooked_pendulum"


class Upright:
    """A policy of the user's that swings the pendulum up."""

    def reset(self, mask: Any, seeds: Any, instructions: Any = None) -> None:
        pass

    def act(self, obs: Any) -> np.ndarray:
        angle, speed = obs["observation"].T
        torque = -10.0 * angle - 2.0 * speed  # N m
        return ((torque - 10.0) / 20.0)[:, None].astype(np.float32)


class Pendulum(BaseRobotEnv):
    folder: Path

    def __init__(self, config: SimConfig | None = None, render_mode: str | None = None) -> None:
        own = SimConfig(xml_path=str(self.folder / "pendulum.xml"), cameras=[], control_dt=0.02)
        super().__init__(config or own, render_mode)

    def _build_observation_space(self) -> spaces.Space:
        return spaces.Box(-1e3, 1e3, (2,), np.float32)

    def _build_action_space(self) -> spaces.Space:
        return spaces.Box(-10, 30, (1,), np.float32)

    def _get_obs(self) -> Any:
        return np.array([self.data.qpos[0], self.data.qvel[0]], np.float32)

    def _get_reward(self) -> float:
        return -abs(float(self.data.qpos[0]))

    def _is_terminated(self) -> bool:
        return self._upright

    def _get_info(self) -> dict[str, Any]:
        return {"success": self._upright}

    def _reset_task(self, rng: np.random.Generator) -> None:
        self.data.qpos[0] = rng.uniform(0.3, 0.8)

    @property
    def _upright(self) -> bool:
        return abs(float(self.data.qpos[0])) < 0.1

    def expert(self) -> Upright:
        return Upright()


class Unbounded(Pendulum):
    def _build_action_space(self) -> spaces.Space:
        return spaces.Box(-np.inf, np.inf, (1,), np.float32)


@pytest.fixture(autouse=True)
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pendulum.xml").write_text(XML)
    monkeypatch.setattr(Pendulum, "folder", tmp_path, raising=False)
    register_env(NAME, Pendulum)
    register_env("hooked_unbounded", Unbounded)


def test_n_envs_are_n_single_ones_bit_by_bit() -> None:
    envs: Any = make_vec_env(NAME, 3, autoreset_mode="disabled")
    singles: list[Any] = [make_env(NAME) for _ in range(3)]
    obs, _ = envs.reset(seed=[5, 2**40, 7])
    for i, (env, seed) in enumerate(zip(singles, [5, 2**40, 7], strict=True)):
        np.testing.assert_array_equal(obs["observation"][i], env.reset(seed=seed)[0])
    rng = np.random.default_rng(0)
    for _ in range(20):
        actions = rng.uniform(-1, 1, (3, 1)).astype(np.float32)
        obs, reward, *_ = envs.step(actions)
        for i, env in enumerate(singles):
            torque = (10.0 + 20.0 * actions[i].astype(np.float64)).astype(np.float32)
            own, gained, *_ = env.step(torque)  # of the Box from -10 to 30
            np.testing.assert_allclose(obs["observation"][i], own, rtol=1e-5)
            assert reward[i] == pytest.approx(gained, rel=1e-5)
    assert envs.states().shape == (3, 3)  # time, angle, speed


@pytest.mark.parametrize(("action", "torque"), [(-1.0, -10.0), (0.0, 10.0), (1.0, 30.0)])
def test_actions_span_the_bounds(action: float, torque: float) -> None:
    env = PolicyEnv(NAME, Pendulum())
    env.reset(seed=0)
    env.step(np.array([action], np.float32))
    assert env.data.ctrl[0] == torque


def test_it_is_an_environment_as_gymnasium_wants_it() -> None:
    check_env(PolicyEnv(NAME, Pendulum()), skip_render_check=True)


def test_actions_without_bounds_are_refused(refused: Callable[..., str]) -> None:
    refused(
        lambda: make_vec_env("hooked_unbounded", 2), "'hooked_unbounded'", "-inf", "finite bounds"
    )


def test_evaluation_and_a_viewer_run_it(caplog: pytest.LogCaptureFixture) -> None:
    factory._WARNED.clear()
    settings = SourceEvaluation(env_name=NAME, n_episodes=4, show_progress=False)
    with caplog.at_level(logging.WARNING):
        found = evaluate_source("scripted", settings)
        assert evaluate_source("random", settings)["success_rate"] < 1.0
    assert found["success_rate"] == 1.0 and found["stages"] == []
    assert caplog.text.count("one after the other") == 1
    live = load_player(NAME, "scripted")
    assert live.env.config.control_dt == 0.02  # of the class
    while live.finished == 0:
        live.advance(0.02)
    assert live.successes == 1 and not live.listens
    live.play(live.env, RandomPolicy(1))


def test_a_dataset_of_it_is_as_good_as_any(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    generate_dataset(
        env_name=NAME, n_episodes=3, policy_type="scripted", output_path=path, show_progress=False
    )
    assert validate_dataset(path).ok
    with open_dataset(path) as data:
        assert data.contract is not None and data.contract.env_config["control_dt"] == 0.02
        assert len(data) == 3
        states, actions = data.read(0, "states"), data.read(0, "actions")
        assert np.abs(actions).max() <= 1.0 and len(states) == len(actions)
