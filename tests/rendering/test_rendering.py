"""Pictures: the same in a row of a batch and alone, metric, segmented, and alike from both engines.

The ray tracer draws in this process. OpenGL is chosen when MuJoCo is imported, so what concerns it runs in
processes of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from simscaleai.rendering import Renderer, loading, warp_engine
from simscaleai.rendering.engine_settings import EngineSettings
from simscaleai.rendering.general_engine import GeneralEngine
from simscaleai.rendering.render_camera import RenderCamera
from simscaleai.rendering.render_state import RenderState, extrinsics, intrinsics
from simscaleai.sim import CameraConfig, make_env, make_vec_env
from simscaleai.sim.batch_sim import BatchSim

pytest.importorskip("warp", reason="the ray tracer is not installed")

FRONT = CameraConfig("front_cam", 48, 32, fov=40)
OVERHEAD = CameraConfig("overhead_cam", 32, 32, fov=29)


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    made = make_env("pick_place", "rgb_array", cameras=[FRONT], render_engine="warp")
    made.reset(seed=0)
    yield made
    made.close()


def first(images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Images of the only simulation."""
    return {kind: image[0] for kind, image in images.items()}


def test_a_row_sees_what_a_single_environment_sees() -> None:
    settings: dict[str, Any] = {
        "cameras": [FRONT, OVERHEAD],
        "domain_randomization": True,
        "render_engine": "warp",
        "observe_depth": True,
        "observe_segmentation": True,
    }
    envs = make_vec_env("pick_place", 3, **settings)
    env = make_env("pick_place", "rgb_array", **settings)
    (batch, _), (one, _) = envs.reset(seed=4), env.reset(seed=5)
    actions = np.random.default_rng(0).uniform(-1, 1, (3, 4))
    for _ in range(3):
        assert envs.observation_space.contains(batch) and env.observation_space.contains(one)
        for key, value in one.items():
            np.testing.assert_array_equal(batch[key][1], value, err_msg=key)
        assert (batch["image"][0] != batch["image"][1]).mean() > 0.1  # colors are the row's own
        batch, one = envs.step(actions)[0], env.step(actions[1])[0]
    assert {k for k in one if "/" in k or k == "image"} == {
        "image",
        *(
            f"{kind}/{c}_cam"
            for kind in ("images", "depth", "segmentation")
            for c in ("front", "overhead")
        ),
    }
    np.testing.assert_array_equal(one["image"], one["images/front_cam"])
    np.testing.assert_array_equal(env.render(), one["image"])
    envs.close(), env.close()


def test_without_the_switches_only_pictures_are_observed(env: Any) -> None:
    assert FRONT.render_depth
    assert {k for k in env.observation_space if k.startswith(("image", "depth", "seg"))} == {
        "image"
    }


def test_looks_lights_sizes_and_camera_poses_show_in_their_own_row(env: Any) -> None:
    def pictures(change: Callable[[BatchSim], None]) -> Any:
        sim = BatchSim(env.model, 3, 1)
        change(sim)
        sim.forward(np.arange(3))
        renderer = Renderer(env.model, [OVERHEAD], 3, engine="warp", threads=2)
        return renderer.render(sim.render_state())["overhead_cam"]["rgb"].astype(int)

    def write(field: str, name: str, factor: float) -> Callable[[BatchSim], None]:
        accessor = getattr(env.model, field.split("_")[0])

        def change(sim: BatchSim) -> None:
            sim.parameter(field)[1, accessor(name).id] *= factor

        return change

    for field, name, factor in (
        ("mat_rgba", "table", 0.5),
        ("light_diffuse", "key", 0.2),
        ("geom_size", "table_top", 0.8),
        ("cam_pos", "overhead_cam", 0.7),
        ("light_pos", "key", 0.5),
    ):
        seen = pictures(write(field, name, factor))
        np.testing.assert_array_equal(seen[0], seen[2], err_msg=field)
        assert np.abs(seen[0] - seen[1]).mean() > 1, field


def test_depth_is_metric_and_geoms_are_where_the_intrinsics_say(env: Any) -> None:
    env.reset(seed=1)
    size = 96
    camera = CameraConfig("overhead_cam", size, size, fov=29)
    renderer = Renderer(env.model, [camera], engine="warp")
    state = RenderState.of(env.model, env.data)
    seen = first(renderer.render(state, depth=True, segmentation=True)["overhead_cam"])
    table, cube = env.model.geom("table_top").id, env.model.geom("object").id
    geoms = seen["segmentation"]
    height = env.data.camera("overhead_cam").xpos[2]  # the table's top is z = 0
    bare = geoms == table
    assert bare.mean() > 0.5
    np.testing.assert_allclose(seen["depth"][bare], height, atol=2e-3)
    # the middle of the cube, through the camera, falls on a pixel of the cube
    view, camera_id = RenderState.of(env.model, env.data), env.model.camera("overhead_cam").id
    to_world = extrinsics(view, camera_id)[0]
    x, y, z = np.linalg.inv(to_world) @ [*env.data.geom("object").xpos, 1] @ np.eye(4)[:, :3]
    column, row, one = intrinsics(size, size, 29) @ [x, y, z] / z
    assert one == 1 and geoms[int(row), int(column)] == cube
    rows, columns = np.nonzero(geoms == cube)
    assert abs(rows.mean() + 0.5 - row) < 1.5 and abs(columns.mean() + 0.5 - column) < 1.5
    assert seen["depth"][int(row), int(column)] == pytest.approx(z - 0.02, abs=2e-3)  # its top


def test_where_nothing_is_depth_is_zero_and_there_is_no_geom(env: Any) -> None:
    seen = env.render_camera("front_cam", depth=True, segmentation=True)
    sky = seen["segmentation"] == -1
    assert 0.05 < sky.mean() < 0.9 and (seen["depth"][sky] == 0).all()
    assert (seen["depth"][~sky] > 0.1).all()


def test_a_forked_process_draws_too() -> None:
    """As Gymnasium's AsyncVectorEnv does: threads that drew before are gone in the child."""
    envs = make_vec_env("reach", 2, cameras=[OVERHEAD], render_engine="warp")
    envs.core.renderer._threads = 2
    envs.reset(seed=0)
    before = envs.render_cameras()["overhead_cam"]["rgb"]  # with threads
    context = multiprocessing.get_context("fork")
    pipe, theirs = context.Pipe()
    child = context.Process(
        target=lambda: theirs.send(envs.render_cameras()["overhead_cam"]["rgb"]), daemon=True
    )
    child.start()
    assert pipe.poll(60), "the child hangs"
    np.testing.assert_array_equal(pipe.recv(), before)
    child.join()
    envs.close()


def test_mistakes_are_named(
    env: Any, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = [FRONT, FRONT]
    refused(lambda: make_env("reach", cameras=twice), "front_cam", "twice")
    refused(lambda: Renderer(env.model, [FRONT], engine="vulkan"), "vulkan", "warp", "gl")
    refused(lambda: env.render_camera("front"), "front_cam", "wrist_cam")
    flat = CameraConfig("front_cam", 0, 32)
    refused(lambda: make_env("reach", cameras=[flat]).reset(), "front_cam", "0 x 32")
    monkeypatch.setitem(sys.modules, "warp", None)  # as if it were not installed
    refused(lambda: loading.import_warp(), "mujoco-warp", "pip install", "gl")


def test_the_first_image_says_that_kernels_compile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading.import_warp().config, "kernel_cache_dir", str(tmp_path))
    loading.tell_compiling(["wp_a", "wp_b"])
    said = capsys.readouterr().err
    assert "15 s" in said and str(tmp_path) in said and said.count("\n") == 1
    (tmp_path / "wp_a").mkdir()
    loading.tell_compiling(["wp_a"])
    assert capsys.readouterr().err == ""
    loading.tell_compiling(["wp_a", "wp_b*"])
    assert "15 s" in capsys.readouterr().err


# as after `pip install simscaleai`: the engine alone
BASE = """
import sys
for name in ("glfw", "OpenGL", "warp", "mujoco_warp", "imageio", "matplotlib", "PIL"):
    sys.modules[name] = None
from simscaleai.errors import MissingPackageError
from simscaleai.sim import make_env, make_vec_env
env = make_env("reach", cameras=[])
env.reset(seed=0), env.step(env.action_space.sample())
envs = make_vec_env("reach", 4)
envs.reset(seed=0), envs.step(envs.action_space.sample())
try:
    make_env("reach", "rgb_array").reset(seed=0)
except MissingPackageError as error:
    print(error)
"""


def test_the_simulator_needs_no_package_of_images() -> None:
    run = _python(BASE)
    assert run.returncode == 0, run.stderr
    assert "simscaleai[render]" in run.stdout and "simscaleai[gl]" in run.stdout


HIDDEN = """
import sys
from simscaleai.errors import UserError
from simscaleai.sim import CameraConfig, make_env, make_vec_env
make_env("reach", cameras=[]).reset(seed=0), make_vec_env("reach", 2).reset(seed=0)
drawing = {"warp", "simscaleai.rendering.warp_engine", "simscaleai.rendering.gl_engine"}
assert not drawing & set(sys.modules)  # no images, no cost
env = make_env("reach", "rgb_array", cameras=[CameraConfig("front_cam", 16, 16)])
assert env.reset(seed=0)[0]["image"].std() > 5 and env.core.renderer.engine == "warp"
assert not any(name.startswith("OpenGL") for name in sys.modules)
try:
    make_env("reach", render_engine="gl").reset(seed=0)
except UserError as error:
    assert "MUJOCO_GL is 'disable'" in str(error) and "simscaleai[render]" in str(error), error
else:
    raise AssertionError("drew without OpenGL")
"""


def test_without_opengl_everything_is_drawn() -> None:
    run = _python(HIDDEN, MUJOCO_GL="disable")
    assert run.returncode == 0, run.stderr
    said = [line for line in run.stderr.splitlines() if not line.startswith("Compiling the ")]
    assert run.stdout == "" and not said, "the tracer talks"


AGREE = """
import sys
import numpy as np
try:
    import mujoco
except Exception as error:  # the platform's library is missing
    print(error)
    sys.exit(77)
from simscaleai.errors import UserError
from simscaleai.sim import CameraConfig, make_vec_env
from simscaleai.rendering import Renderer

cameras = [CameraConfig(f"{name}_cam", 96, 64, fov) for name, fov in
           (("wrist", 60), ("front", 40), ("overhead", 29))]
envs = make_vec_env("pick_place", 2, domain_randomization=True)
obs, _ = envs.reset(seed=4)
expert = envs.task.expert()
for _ in range(8):
    obs = envs.step(expert.act(obs))[0]
seen = {}
for engine in ("warp", "gl"):
    try:
        renderer = Renderer(envs.model, cameras, 2, engine=engine)
        seen[engine] = renderer.render(envs.sim.render_state(), depth=True, segmentation=True)
    except UserError as error:
        print(error)
        sys.exit(77)
    assert renderer.engine == engine
for camera in seen["gl"]:
    a, b = seen["warp"][camera], seen["gl"][camera]
    for kind in b:
        assert a[kind].shape == b[kind].shape and a[kind].dtype == b[kind].dtype
    assert (np.abs(a["depth"] - b["depth"]) < 0.002).mean() > 0.99, camera
    geoms = b["segmentation"]
    assert (a["segmentation"] == geoms).mean() > 0.99, camera
    color = np.abs(a["rgb"].astype(int) - b["rgb"]).max(-1)
    inside = np.ones_like(geoms, bool)  # no other geom beside it
    for axis in (1, 2):
        for step in (1, -1):
            inside &= np.roll(geoms, step, axis) == geoms
    assert inside.mean() > 0.7 and color[inside].mean() < 8, (camera, color[inside].mean())
"""


@pytest.mark.parametrize("platform", ["egl", "osmesa"])
def test_the_engines_agree(platform: str) -> None:
    run = _python(AGREE, MUJOCO_GL=platform)
    if run.returncode == 77:
        pytest.skip(f"no {platform} here: {run.stdout.strip()}")
    assert run.returncode == 0, run.stderr


def _python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=240
    )


SHAPES = """
<mujoco>
  <visual><headlight diffuse="0.3 0.3 0.3" specular="0.2 0.2 0.2"/><map zfar="30"/></visual>
  <statistic center="0 0 0.5" extent="1.5"/>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1="1 0 0" rgb2="0 0 1" width="32" height="192"/>
    <texture name="grid" type="2d" builtin="checker" rgb1=".2 .3 .4" rgb2=".8 .7 .6" width="64" height="64"/>
    <material name="grid" texture="grid" texrepeat="3 2"/>
    <material name="glow" rgba=".3 .6 .2 1" emission="0.3" specular="0.8" shininess="0.1"/>
    <mesh name="wedge" vertex="0 0 0 .4 0 0 0 .4 0 0 0 .5"/>
  </asset>
  <worldbody>
    <light type="directional" pos="0 0 3" dir=".3 -.4 -1" diffuse=".5 .5 .5"/>
    <light type="point" pos="-1 -1 2" diffuse=".4 .3 .3" attenuation="1 .1 .05" castshadow="false"/>
    <light type="spot" pos="1 -1 2" dir="-.5 .5 -1" cutoff="30" exponent="5" ambient=".1 .1 .1"/>
    <geom type="plane" size="2 1.5 .1" material="grid"/>
    <geom type="sphere" size=".15" pos="-.6 -.3 .2" material="glow"/>
    <geom type="capsule" size=".08 .2" pos="-.2 -.4 .4" euler="30 50 0" rgba="1 .5 0 1"/>
    <geom type="ellipsoid" size=".1 .2 .3" pos=".2 -.3 .35" euler="20 30 0"/>
    <geom type="cylinder" size=".12 .2" pos=".6 -.3 .3" euler="60 20 0" rgba=".2 .2 1 1"/>
    <geom type="box" size=".1 .15 .2" pos="0 .4 .3" euler="10 20 30" rgba="1 0 1 1"/>
    <geom type="mesh" mesh="wedge" pos=".5 .4 .2" euler="0 0 40" rgba="0 1 1 1"/>
    <geom type="box" size=".2 .2 .2" pos="0 0 1" rgba="1 1 1 0"/>
    <camera name="cam" pos="0 -2 1.6" xyaxes="1 0 0 0 .6 .8" fovy="50"/>
  </worldbody>
</mujoco>
"""


def test_the_tracer_draws_as_that_of_mujoco_warp() -> None:
    """An independent tracer, over all shapes, lights and materials that ours knows."""
    pytest.importorskip("mujoco_warp")
    model = mujoco.MjModel.from_xml_string(SHAPES)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    view, camera = (
        RenderState.of(model, data),
        RenderCamera("cam", 0, 93, 70, 50.0),
    )  # not a whole number of tiles
    assert loading.can_draw(model)
    seen = [
        engine(model, EngineSettings([camera], 1, 2, 1)).draw(view, [0], True, True)[0]
        for engine in (warp_engine.WarpEngine, GeneralEngine)
    ]
    a, b = seen
    assert len(np.unique(b["segmentation"])) == 8, "not everything is in the picture"
    same = a["segmentation"] == b["segmentation"]
    assert same.mean() > 0.998
    np.testing.assert_allclose(a["depth"][same], b["depth"][same], atol=1e-3)
    color = np.abs(a["rgb"].astype(int) - b["rgb"]).max(-1)
    # theirs does not filter a texture across its border, a pixel-wide line in every repetition
    assert (color <= 2).mean() > 0.98, np.quantile(color, [0.5, 0.9, 0.99])


def test_what_the_tracer_does_not_know_is_drawn_by_mujoco_warp() -> None:
    pytest.importorskip("mujoco_warp")
    ball = '<geom type="sphere" size=".3" pos="0 0 .3" material="grid"/></worldbody>'
    model = mujoco.MjModel.from_xml_string(SHAPES.replace("</worldbody>", ball))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = Renderer(model, [CameraConfig("cam", 32, 32)], engine="warp")
    seen = first(renderer.render(RenderState.of(model, data), segmentation=True)["cam"])
    assert not loading.can_draw(model) and (seen["segmentation"] == model.ngeom - 1).any()


def test_samples_smooth_edges(env: Any) -> None:
    state = RenderState.of(env.model, env.data)
    plain, smooth = (
        Renderer(env.model, [FRONT], engine="warp", samples=k).render(state)["front_cam"]["rgb"][0]
        for k in (1, 2)
    )
    difference = np.abs(plain.astype(int) - smooth)
    assert plain.shape == smooth.shape and 0 < difference.mean() < 8
    steps = [np.abs(np.diff(rgb.astype(int), axis=0)).max() for rgb in (plain, smooth)]
    assert steps[1] < steps[0]


@pytest.mark.parametrize("mode", ["disabled", "same_step", "next_step"])
def test_pictures_are_of_now_however_rows_go_on(mode: str) -> None:
    """Rows that stand still are not drawn again, and those that begin anew are."""
    envs = make_vec_env(
        "reach",
        4,
        cameras=[OVERHEAD],
        render_engine="warp",
        autoreset_mode=mode,
        max_episode_steps=4,
    )
    envs.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (4, 4))
    for step in range(7):
        obs, _, _, _, info = envs.step(actions)
        seen = envs.render_cameras()["overhead_cam"]["rgb"]
        np.testing.assert_array_equal(obs["image"], seen)
        if mode == "same_step" and step == 3:
            last = np.stack([final["image"] for final in info["final_obs"]])
            assert (last != seen).any()
        if mode == "disabled" and step == 4:
            envs.reset(
                seed=[7, 8, 9, 10], options={"reset_mask": np.array([True, False, False, True])}
            )
    envs.close()


def test_an_unwritable_kernel_cache_is_told_and_done_without(tmp_path: Path) -> None:
    """Under a file no folder can be made, whoever asks."""
    (tmp_path / "file").touch()
    code = (
        "import os, warp; from simscaleai.rendering.loading import import_warp\n"
        "import_warp(); import_warp(); folder = warp.config.kernel_cache_dir\n"
        "assert os.access(folder, os.W_OK) and os.environ['WARP_CACHE_PATH'] in folder, folder\n"
        "print(folder)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "WARP_CACHE_PATH": str(tmp_path / "file" / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "cannot be written to (Not a directory)" in done.stderr
    assert not Path(done.stdout.splitlines()[-1]).exists()
