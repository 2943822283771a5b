"""Scene files of users: what they may include, and what is said when one cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simscaleai.errors import MissingFileError
from simscaleai.sim import make_env, make_vec_env
from simscaleai.sim.scene import ASSETS, check_timing, load_model

TARGET = '<body name="target" mocap="true"><geom size=".01" contype="0" conaffinity="0"/></body>'
OWN = """<mujoco model="mine">
  <include file="panda.xml"/>
  <include file="scene.xml"/>
  <worldbody>
    <geom name="wall" type="box" pos="0.45 0 0.1" size="0.02 0.3 0.1" contype="1" conaffinity="3"/>
    <camera name="side_cam" pos="0.5 -1.5 0.5" xyaxes="1 0 0 0 0.3 1"/>
    TARGET
  </worldbody>
</mujoco>
""".replace("TARGET", TARGET)


@pytest.fixture
def scene(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str, name: str = "mine.xml") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_a_users_scene_includes_the_bundled_files(scene: Callable[[str], str]) -> None:
    path = scene(OWN)
    env = make_env("reach", cameras=[], xml_path=path)
    env.reset(seed=0)
    env.sim.mocap_pos[:] = 9.0
    for _ in range(30):  # down onto the wall, whose top is at 0.2 m
        env.step(np.array([0, 0, -1, -1], np.float32))
    pads = env.data.geom("left_pad").xpos[2]
    assert pads > 0.19
    envs = make_vec_env("reach", 2, xml_path=path)
    obs, _ = envs.reset(seed=0)
    np.testing.assert_array_equal(obs["target_pos"][0], env.reset(seed=0)[0]["target_pos"])


def test_a_file_beside_the_scene_comes_before_the_bundled_one(
    scene: Callable[..., str], tmp_path: Path
) -> None:
    path = scene(OWN)
    text = (ASSETS / "scene.xml").read_text()
    (tmp_path / "scene.xml").write_text(text.replace('name="front_cam"', 'name="my_cam"'))
    names = [load_model(path, 0.002).camera(i).name for i in range(4)]
    assert "my_cam" in names and "front_cam" not in names


def test_timestep_and_sticking_pairs_follow_dt() -> None:
    for dt in (0.001, 0.005):
        model = load_model(ASSETS / "pick_place.xml", dt)
        assert model.opt.timestep == dt
        assert model.npair == 2
        # 1.9 of the slip speed is taken away per substep
        np.testing.assert_allclose(-model.pair_solreffriction[:, 1] * dt, 1.9)


def test_a_missing_scene(refused: Callable[..., str], tmp_path: Path) -> None:
    path = str(tmp_path / "none.xml")
    refused(lambda: make_env("reach", cameras=[], xml_path=path), path, "MJCF")
    refused(lambda: make_vec_env("reach", 2, xml_path=path), path)
    with pytest.raises(MissingFileError):
        make_env("reach", cameras=[], xml_path=str(tmp_path))  # a folder


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<mujoco><worldbody><body></worldbody></mujoco>",
        "<mujoco><worldbody><bodyy/></worldbody></mujoco>",
        "<mujoco><include file='nowhere.xml'/></mujoco>",
    ],
)
def test_a_broken_scene(
    text: str, scene: Callable[[str], str], refused: Callable[..., str]
) -> None:
    path = scene(text)
    refused(lambda: make_env("reach", cameras=[], xml_path=path), path, "MuJoCo")


def test_a_scene_without_a_panda(scene: Callable[[str], str], refused: Callable[..., str]) -> None:
    path = scene(f"<mujoco><worldbody>{TARGET}</worldbody></mujoco>")
    for make in (
        lambda: make_env("reach", cameras=[], xml_path=path),
        lambda: make_vec_env("reach", 2, xml_path=path),
    ):
        refused(make, "no Panda", '<include file="panda.xml"/>')


def test_a_scene_without_what_the_task_needs(
    scene: Callable[[str], str], refused: Callable[..., str]
) -> None:
    without = scene(OWN.replace(TARGET, ""))
    refused(lambda: make_env("reach", cameras=[], xml_path=without), "target")
    refused(lambda: make_env("pick_place", cameras=[], xml_path=scene(OWN)), "object")


@pytest.mark.parametrize(
    ("dt", "control_dt", "count"), [(0.002, 0.05, 25), (0.005, 0.05, 10), (0.1, 0.1, 1)]
)
def test_substeps(dt: float, control_dt: float, count: int) -> None:
    assert check_timing(dt, control_dt, 200) == count


@pytest.mark.parametrize(
    ("dt", "control_dt"),
    [(0.003, 0.05), (0.002, 0.0), (0.002, -0.05), (0.1, 0.05), (0.002, np.nan), (0.002, np.inf)],
)
def test_control_dt_must_be_a_whole_multiple(
    dt: float, control_dt: float, refused: Callable[..., str]
) -> None:
    for make in (
        lambda: make_env("reach", cameras=[], dt=dt, control_dt=control_dt),
        lambda: make_vec_env("reach", 2, dt=dt, control_dt=control_dt),
    ):
        refused(make, "control_dt", str(control_dt))


@pytest.mark.parametrize("dt", [0.0, -0.002, np.nan])
def test_dt_must_be_positive(dt: float, refused: Callable[..., str]) -> None:
    refused(lambda: make_env("reach", cameras=[], dt=dt), f"dt is {dt}", "positive")
    refused(lambda: make_vec_env("reach", 2, dt=dt), f"dt is {dt}", "positive")
