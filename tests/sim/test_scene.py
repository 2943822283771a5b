"""Scene files of users: what they may include, and what is said when one cannot be used."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
import pytest

from simscaleai.errors import MissingFileError
from simscaleai.sim import SimConfig, make_env, make_vec_env
from simscaleai.sim import scene as scene_module
from simscaleai.sim.robots.panda import PANDA
from simscaleai.sim.robots.robot import find_robot
from simscaleai.sim.scene import ASSETS, check_timing, load_model, newton_in_doubt
from simscaleai.sim.task_env import TaskEnv
from simscaleai.sim.tasks.reach import Reach

TARGET = '<body name="target" mocap="true"><geom size=".01" contype="0" conaffinity="0"/></body>'
PANDA_XML = (ASSETS / "panda.xml").read_text()
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
        model = load_model(ASSETS / "pick_place.xml", dt, PANDA)
        assert model.opt.timestep == dt
        assert model.npair == 2
        # 1.9 of the slip speed is taken away per substep
        np.testing.assert_allclose(-model.pair_solreffriction[:, 1] * dt, 1.9)


def test_what_is_changed_in_one_model_is_changed_in_no_other() -> None:
    path = ASSETS / "pick_place.xml"
    before = load_model(path, 0.005, PANDA)
    changed = load_model(path, 0.005, PANDA)
    changed.body_mass[:] *= 2
    changed.opt.gravity[:] = 0
    moved = load_model(path, 0.005, PANDA, {"front_cam": [0.0, 0.0, 1.0, 0.5, 0.0, 0.0]})
    for model in (before, load_model(path, 0.005, PANDA), moved):
        assert model.body_mass.sum() == pytest.approx(changed.body_mass.sum() / 2)
        assert model.opt.gravity[2] == -9.81
    assert not np.array_equal(before.camera("front_cam").pos, moved.camera("front_cam").pos)
    assert load_model(path, 0.005, find_robot("ur5e")).nq != before.nq


def test_a_users_own_pair_stays_as_it_is(scene: Callable[[str], str]) -> None:
    pair = '<contact><pair geom1="wall" geom2="table" solreffriction="-1 -2"/></contact></mujoco>'
    model = load_model(scene(OWN.replace("</mujoco>", pair)), 0.002)
    np.testing.assert_array_equal(model.pair_solreffriction, [[-1, -2]])


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


def test_a_scene_without_a_robot_gets_the_configured_one(scene: Callable[[str], str]) -> None:
    place = '<body name="robot" pos="0.1 0 0.2"/>'
    for mount, at in (("", (0, 0, 0)), (place, (0.1, 0, 0.2))):
        path = scene(f"<mujoco><worldbody>{TARGET}{mount}</worldbody></mujoco>")
        env = make_env("reach", cameras=[], xml_path=path)
        assert env.model.nu == 8 and env.model.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC
        env.reset(seed=0)
        np.testing.assert_allclose(env.data.body("link0").xpos, at, atol=1e-12)


def test_a_scene_with_the_robot_gets_no_second_one(scene: Callable[[str], str]) -> None:
    model = make_env("reach", cameras=[], xml_path=scene(OWN)).model
    assert model.nu == 8 and model.njnt == 9


def test_options_of_the_scene_count_before_those_of_the_robot(scene: Callable[[str], str]) -> None:
    option = '<option cone="pyramidal" impratio="3"/>'
    path = scene(f"<mujoco>{option}<worldbody>{TARGET}</worldbody></mujoco>")
    assert make_env("reach", cameras=[], xml_path=path).model.opt.impratio == 3


def test_attaching_is_silent(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where MuJoCo would write its log
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_env("reach", cameras=[])
    assert capfd.readouterr() == ("", "") and not list(tmp_path.iterdir())


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


MARKERS = (
    """<body name="{0}a" mocap="true" pos="1 2 3"/><body name="{0}b" mocap="true" pos="4 5 6"/>"""
)


@pytest.mark.parametrize(
    "name", ["reach", "pick_place", "reach_color", "reach_around", "pick_place_color"]
)
def test_only_what_a_task_names_moves_at_reset(name: str, scene: Callable[[str], str]) -> None:
    text = (ASSETS / f"{name}.xml").read_text()
    first = f"<mujoco><worldbody>{MARKERS.format('first_')}</worldbody>"
    text = text.replace(f'<mujoco model="{name}">', first)
    text = text.replace("</mujoco>", f"<worldbody>{MARKERS.format('last_')}</worldbody></mujoco>")
    path = scene(text)
    own, others = make_env(name, cameras=[]), make_env(name, cameras=[], xml_path=path)
    expected, _ = own.reset(seed=4)
    seen, _ = others.reset(seed=4)
    for key in ("target_pos", "red_pos", "post_pos"):
        if key in expected:
            np.testing.assert_array_equal(seen[key], expected[key])
    envs = make_vec_env(name, 2, xml_path=path)
    envs.reset(seed=4)
    for mocap_pos in (others.data.mocap_pos, *envs.sim.mocap_pos):
        for which in ("first_", "last_"):
            ids = [others.model.body(which + end).mocapid[0] for end in "ab"]
            np.testing.assert_array_equal(mocap_pos[ids], [[1, 2, 3], [4, 5, 6]])


def test_a_task_that_would_write_to_the_whole_scene(
    scene: Callable[[str], str], refused: Callable[..., str]
) -> None:
    class Broad(Reach):
        def initial_state(self, u: np.ndarray) -> dict[str, np.ndarray]:
            start = super().initial_state(u)
            return {**start, "mocap_pos": start["mocap_pos"][:, :1]}

    path = scene(OWN.replace(TARGET, TARGET + MARKERS.format("")))
    env = TaskEnv(SimConfig(cameras=[], xml_path=path), task_class=Broad)
    refused(lambda: env.reset(seed=0), "reach", "mocap_pos", "(1, 1, 3)", "(1, 3, 3)")


OTHER_NAMES = {
    "joint3": ('<joint name="joint3"', '<joint name="elbow_roll"'),
    "actuators": ('<position name="joint1"', '<position name="servo1"'),
    "position actuators gripper": ('name="gripper"', 'name="hand_open"'),
    "finger_joint2": ("finger_joint2", "right_joint"),
    "sites ee": ('name="ee"', 'name="tcp"'),
    "position actuators of": (
        '<position name="joint4" class="elbow" joint="joint4"/>',
        '<motor name="joint4" joint="joint4"/>',
    ),
    "hinge joints joint5": (
        '<joint name="joint5" class="wrist"/>',
        '<joint name="joint5" class="wrist" type="slide"/>',
    ),
    "follow each other": (
        '<geom class="visual" mesh="hand" material="hand"/>',
        '<joint name="joint8" class="wrist"/><geom class="visual" mesh="hand" material="hand"/>',
    ),
}


@pytest.mark.parametrize("mention", OTHER_NAMES)
def test_a_robot_of_another_make(
    mention: str, scene: Callable[..., str], refused: Callable[..., str]
) -> None:
    text = PANDA_XML.replace(*OTHER_NAMES[mention])
    if mention == "joint3":
        text = text.replace('joint="joint3"', 'joint="elbow_roll"')
    if mention == "follow each other":  # a second arm's actuator among those of the first
        text = PANDA_XML.replace(
            '<position name="joint2"', '<motor joint="joint1"/>\n    <position name="joint2"'
        )
    scene(text, "panda.xml")
    path = scene(OWN)
    for make in (
        lambda: make_env("reach", cameras=[], xml_path=path),
        lambda: make_vec_env("reach", 2, xml_path=path),
    ):
        refused(make, mention, "joint1" if mention == "follow each other" else "robot 'panda'")


NOT_AS_NEEDED = {
    "reach": ('name="target" mocap="true"', 'name="target"', 'mocap="true"'),
    "pick_place": ('<freejoint name="object"/>', "", "free joint object"),
    "reach_color": ('name="green_sphere" mocap="true"', 'name="green_sphere"', "green_sphere"),
    "reach_around": ('<distance name="hand_to_post"', '<distance name="hand"', "hand_to_post"),
    "pick_place_color": ('<include file="latent.xml"/>', "", "latent"),
}


@pytest.mark.parametrize("name", NOT_AS_NEEDED)
def test_a_scene_in_which_things_are_not_as_the_task_needs_them(
    name: str, scene: Callable[[str], str], refused: Callable[..., str]
) -> None:
    old, new, mention = NOT_AS_NEEDED[name]
    text = (ASSETS / f"{name}.xml").read_text()
    assert old in text
    path = scene(text.replace(old, new))
    refused(lambda: make_env(name, cameras=[], xml_path=path), repr(name), mention)
    refused(lambda: make_vec_env(name, 2, xml_path=path), repr(name), mention)


@pytest.mark.parametrize("name", ["reach", "pick_place"])
def test_bodies_in_front_of_the_robot_change_no_observation(
    name: str, scene: Callable[[str], str]
) -> None:
    ball = '<body name="ball{0}" pos="{0} 0.9 0.02"><freejoint/><geom size="0.02"/></body>'
    balls = f"<worldbody>{ball.format(0)}{ball.format(1)}</worldbody>"
    text = (ASSETS / f"{name}.xml").read_text()
    path = scene(text.replace(f'<mujoco model="{name}">', f"<mujoco>{balls}"))
    own = make_env(name, cameras=[])
    behind = make_env(name, cameras=[], xml_path=path)
    for env in (own, behind):
        env.reset(seed=1)
    for _ in range(3):
        action = np.array([1, 0.5, -1, -1], np.float32)
        expected, seen = own.step(action)[0], behind.step(action)[0]
    assert abs(expected["joint_vel"]).max() > 0.1
    for key in expected:
        np.testing.assert_allclose(seen[key], expected[key], atol=1e-6, err_msg=key)


def test_a_free_joint_needs_no_name(scene: Callable[[str], str]) -> None:
    text = (ASSETS / "pick_place.xml").read_text()
    path = scene(text.replace('<freejoint name="object"/>', "<freejoint/>"))
    seen, _ = make_env("pick_place", cameras=[], xml_path=path).reset(seed=1)
    expected, _ = make_env("pick_place", cameras=[]).reset(seed=1)
    np.testing.assert_array_equal(seen["object_pos"], expected["object_pos"])
    randomized = {"cameras": [], "domain_randomization": True}
    seen, _ = make_env("pick_place", xml_path=path, **randomized).reset(seed=1)
    own, _ = make_env("pick_place", **randomized).reset(seed=1)
    np.testing.assert_array_equal(seen["object_pos"], own["object_pos"])


def chain(links: int) -> str:
    """A hanging chain of `links` balls joints, each with three degrees of freedom."""
    start, end = '<body pos="0.1 0 0"><joint type="ball"/><geom size="0.02"/>', "</body>"
    return f"<mujoco><worldbody>{start * links}{end * links}</worldbody></mujoco>"


def test_newton_with_sparse_matrices_is_in_doubt_in_one_version_of_mujoco() -> None:
    small, large = (mujoco.MjModel.from_xml_string(chain(links)) for links in (19, 20))
    assert newton_in_doubt(large, "4.0.0")  # 60 degrees of freedom
    assert not newton_in_doubt(small, "4.0.0") and not newton_in_doubt(large, "4.0.1")
    large.opt.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
    assert not newton_in_doubt(large, "4.0.0")
    large.opt.jacobian, large.opt.solver = mujoco.mjtJacobian.mjJAC_AUTO, mujoco.mjtSolver.mjSOL_CG
    assert not newton_in_doubt(large, "4.0.0")
    small.opt.jacobian = mujoco.mjtJacobian.mjJAC_SPARSE
    assert newton_in_doubt(small, "4.0.0")


@pytest.mark.skipif(mujoco.__version__ != "4.0.0", reason="mended in later versions")
def test_large_scenes_are_warned_of_once(
    scene: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    scene_module._warn_of_newton.cache_clear()
    for links in (20, 30):
        load_model(scene(chain(links)), 0.002)
    (record,) = caplog.records
    assert "4.0.1" in record.message and 'jacobian="dense"' in record.message
