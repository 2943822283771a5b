"""A simulation that becomes unstable ends its episode, says so, and leaves the others alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from simscaleai.sim import BaseRobotEnv, SimConfig, make_env, make_vec_env, mujoco_library

ACTION = np.array([0.2, 0, 0, 0], np.float32)
SCENE = """<mujoco><option><flag autoreset="{autoreset}"/></option><worldbody>
<body><joint name="j" axis="0 1 0"/><geom type="capsule" fromto="0 0 0 0 0 .5" size=".03"/></body>
</worldbody><actuator><motor joint="j"/></actuator></mujoco>"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Pendulum(BaseRobotEnv):
    """Rewards 1, and is always a success."""

    def _build_observation_space(self) -> spaces.Space[Any]:
        return spaces.Box(-1e3, 1e3, (2,), np.float32)

    def _build_action_space(self) -> spaces.Space[Any]:
        return spaces.Box(-1, 1, (1,), np.float32)

    def _get_obs(self) -> Any:
        return np.array([self.data.qpos[0], self.data.qvel[0]], np.float32)

    def _get_reward(self) -> float:
        return 1.0

    def _is_terminated(self) -> bool:
        return False

    def _reset_task(self, rng: np.random.Generator) -> None:
        pass

    def _get_info(self) -> dict[str, Any]:
        return {"success": True, "is_success": True}


def pendulum(folder: Path, autoreset: str = "enable", **hooks: Callable[..., Any]) -> Pendulum:
    (folder / "pendulum.xml").write_text(SCENE.format(autoreset=autoreset))
    made: Pendulum = type("Made", (Pendulum,), hooks)(SimConfig(str(folder / "pendulum.xml")))
    return made


@pytest.mark.parametrize("autoreset", ["enable", "disable"])
@pytest.mark.parametrize("field", ["qpos", "qvel", "ctrl", "qfrc_applied"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e12])
def test_whatever_a_hook_writes(folder: Path, autoreset: str, field: str, value: float) -> None:
    def act(env: Pendulum, action: np.ndarray) -> None:
        getattr(env.data, field)[0] = value if action[0] > 0 else 0.0

    env = pendulum(folder, autoreset, _apply_action=act)
    _, info = env.reset(seed=0)
    assert info["diverged"] is False
    _, reward, terminated, _, info = env.step(np.zeros(1))
    assert (reward, terminated, info["diverged"], info["success"]) == (1.0, False, False, True)
    for _ in range(2):  # and it stays so until the next episode
        obs, reward, terminated, truncated, info = env.step(np.ones(1))
        assert (reward, terminated, truncated) == (0.0, True, False)
        assert info == {"success": False, "is_success": False, "diverged": True}
        assert np.isfinite(obs).all()
    env.reset()
    assert env.step(np.zeros(1))[4]["diverged"] is False
    assert [path.name for path in folder.iterdir()] == ["pendulum.xml"]  # and no MUJOCO_LOG.TXT


def test_a_start_that_is_not_finite_is_refused(folder: Path, refused: Callable[..., str]) -> None:
    def start(env: Pendulum, rng: np.random.Generator) -> None:
        env.data.qpos[0] = np.nan

    env = pendulum(folder, _reset_task=start)
    refused(lambda: env.reset(seed=0), "NaN", "_reset_task")
    envs = make_vec_env("reach", 2)
    envs.task.start = envs.task.start * np.nan
    refused(lambda: envs.reset(seed=0), "'reach'", "NaN", "initial_state")


def test_a_task() -> None:
    env = make_env("pick_place", cameras=[], dt=0.005)
    obs, info = env.reset(seed=0)
    assert info["diverged"] is False
    env.unwrapped.data.qvel[3] = np.inf
    obs, reward, terminated, truncated, info = env.step(ACTION)
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert info["diverged"] and not info["success"] and not info["is_success"]
    assert set(info["reward_terms"].values()) == {0.0}
    assert all(np.isfinite(value).all() for value in obs.values())


def run(mode: str, bad: bool) -> list[tuple[Any, ...]]:
    """Six steps of three environments; with `bad` the second one becomes unstable at the third step."""
    envs = make_vec_env("reach", 3, autoreset_mode=mode, dt=0.005, max_episode_steps=5)
    envs.reset(seed=0)
    shown = []
    for step in range(6):
        if bad and step == 2:
            envs.sim.qvel[1, 0] = np.nan
        shown.append(envs.step(np.tile(ACTION, (3, 1))))
    return shown


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_rows_of_a_vector_environment(mode: str) -> None:
    good, bad = run(mode, False), run(mode, True)
    for step, (expected, found) in enumerate(zip(good, bad, strict=True)):
        for key in expected[0]:  # the others are not touched, to the bit
            np.testing.assert_array_equal(found[0][key][[0, 2]], expected[0][key][[0, 2]])
        for i in (1, 2, 3):
            np.testing.assert_array_equal(found[i][[0, 2]], expected[i][[0, 2]])
        over = step == 2 or (mode == "disabled" and step > 2)
        last = found[4]["final_info"] if mode == "same_step" and found[2].any() else found[4]
        np.testing.assert_array_equal(last["diverged"], [False, over, False])
        assert found[2][1] == over
        assert np.isfinite(found[0]["joint_pos"]).all()
    _, reward, _, truncated, info = bad[2]
    if mode == "same_step":
        assert info["_final_obs"][1] and not info["diverged"][1]  # the new episode has not
        info = info["final_info"]
    assert reward[1] == 0.0 and not truncated[1] and not info["success"][1]
    assert all(term[1] == 0.0 for term in info["reward_terms"].values())
    if mode == "next_step":  # the third step of its second episode
        assert bad[5][4]["step"][1] == 2


def test_saved_states_and_copies_remember_who_diverged() -> None:
    envs = make_vec_env("reach", 2, autoreset_mode="disabled")
    envs.reset(seed=0)
    envs.sim.qvel[0, 0] = np.inf
    actions = np.tile(ACTION, (2, 1))
    envs.step(actions)
    saved = envs.get_state()
    twin = copy.deepcopy(envs)
    envs.reset(seed=1)
    envs.set_state(saved)
    for each in (envs, twin):
        _, _, terminated, _, info = each.step(actions)
        assert terminated.tolist() == info["diverged"].tolist() == [True, False]


def test_unstable_physics_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    envs = make_vec_env("reach", 8, dt=0.005, autoreset_mode="disabled", num_threads=2)
    envs.reset(seed=0)
    envs.sim.qvel[:] = 1e12
    envs.step(np.zeros((8, 4)))
    assert envs.sim.diverged().all()
    assert capfd.readouterr().err == ""


def test_other_warnings_of_mujoco_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    mujoco_library.log_warning("Nan, Inf or huge value in QACC at DOF 3.")
    mujoco_library.log_warning("Contact buffer is full.")
    assert caplog.messages == ["MuJoCo: Contact buffer is full."]
