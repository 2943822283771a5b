"""The kernels of the engine `warp`: the same picture however it is cut, and faces that are hard to draw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from simscaleai.rendering import warp_engine
from simscaleai.rendering.engine_settings import EngineSettings
from simscaleai.rendering.general_engine import GeneralEngine
from simscaleai.rendering.render_camera import RenderCamera
from simscaleai.rendering.render_state import RenderState

wp = pytest.importorskip("warp", reason="the ray tracer is not installed")

WIDTH, HEIGHT = 93, 70  # not a whole number of tiles

# A camera among meshes, 2 cm before one that it looks along, whose faces reach behind it.
MESHES = """
<mujoco>
  <statistic center="0 0 0" extent="1"/>
  <visual><map zfar="20"/></visual>
  <asset>
    <mesh name="ball" builtin="sphere" params="4" scale=".3 .3 .3"/>
    <mesh name="wall" vertex="-3 -3 0  3 -3 0  -3 3 0  3 3 0  0 0 -1"/>
  </asset>
  <worldbody>
    <light type="spot" pos=".5 -1 2" dir="-.2 .6 -1" cutoff="60" exponent="3"/>
    <geom type="mesh" mesh="wall" pos="0 0 -.02" rgba=".7 .8 .6 1"/>
    <geom type="mesh" mesh="ball" pos="0 1.5 .6" rgba=".2 .3 .9 1"/>
    <geom type="mesh" mesh="ball" pos=".3 .9 .2" euler="20 10 0" rgba=".9 .3 .2 1"/>
    <geom type="box" size=".2 .2 .2" pos="-.6 1.2 .2" rgba=".2 .8 .3 1"/>
    <camera name="cam" pos="0 0 .02" xyaxes="1 0 0 0 0 1" fovy="70"/>
  </worldbody>
</mujoco>
"""


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(MESHES)


def scene_of(body: str) -> mujoco.MjModel:
    """Something else before the same camera."""
    start, end = MESHES.index("    <light"), MESHES.index("    <camera")
    return mujoco.MjModel.from_xml_string(MESHES[:start] + body + MESHES[end:])


def turns(n: int) -> Iterator[NDArray[np.float64]]:
    """Random rotations."""
    for axes in np.random.default_rng(0).normal(size=(n, 3, 3)):
        turn = np.linalg.qr(axes)[0]
        yield turn * np.linalg.det(turn)


def draw(
    model: mujoco.MjModel, engine: Any, threads: int, shift: tuple[float, float] = (0.0, 0.0)
) -> dict[str, NDArray[Any]]:
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    made = engine(
        model, EngineSettings([RenderCamera("cam", 0, WIDTH, HEIGHT, 70.0, shift)], 1, threads, 1)
    )
    seen: dict[str, NDArray[Any]] = made.draw(RenderState.of(model, data), [0], True, True)[0]
    made.close()
    return seen


@pytest.mark.parametrize("threads", [2, 3, 64])
def test_threads_and_strips_do_not_show(model: mujoco.MjModel, threads: int) -> None:
    """One picture is cut into as many strips as there are threads, but never within a tile."""
    one, many = (draw(model, warp_engine.WarpEngine, k) for k in (1, threads))
    for kind in one:
        np.testing.assert_array_equal(one[kind], many[kind], err_msg=kind)


def test_a_face_for_which_no_bin_has_room_is_drawn(
    model: mujoco.MjModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy = draw(model, warp_engine.WarpEngine, 1)
    monkeypatch.setattr(warp_engine, "LINKS", 1)
    for kind, seen in draw(model, warp_engine.WarpEngine, 1).items():
        np.testing.assert_array_equal(seen, roomy[kind], err_msg=kind)


def test_faces_that_reach_behind_the_camera_are_drawn(model: mujoco.MjModel) -> None:
    """As by rays, of an independent tracer."""
    ours, theirs = (draw(model, engine, 2) for engine in (warp_engine.WarpEngine, GeneralEngine))
    assert set(np.unique(theirs["segmentation"])) == {-1, 0, 1, 2, 3}
    same = ours["segmentation"] == theirs["segmentation"]
    assert same.mean() > 0.995
    assert theirs["depth"][theirs["segmentation"] == 0].min() < 0.1, "nothing is near"
    np.testing.assert_allclose(ours["depth"][same], theirs["depth"][same], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shift", [(0.4, -0.3), (-0.9, 0.7)])
def test_the_principal_point_may_be_anywhere(
    model: mujoco.MjModel, shift: tuple[float, float]
) -> None:
    """Within the picture and beside it, as by rays."""
    ours, theirs = (draw(model, e, 2, shift) for e in (warp_engine.WarpEngine, GeneralEngine))
    # GeneralEngine takes cameras as `model_with` writes them
    same = ours["segmentation"] == theirs["segmentation"]
    assert same.mean() > 0.995 and len(np.unique(theirs["segmentation"])) > 1
    np.testing.assert_allclose(ours["depth"][same], theirs["depth"][same], rtol=1e-4, atol=1e-4)
    centered = draw(model, warp_engine.WarpEngine, 2)["segmentation"]
    assert (ours["segmentation"] == centered).mean() < 0.9


def test_faces_leave_no_gaps(model: mujoco.MjModel) -> None:
    """A line of a ball's picture is one piece, though 5,120 faces with rounded edges make it up."""
    seen = draw(model, warp_engine.WarpEngine, 1)["segmentation"][0]
    lines = [np.flatnonzero(line) for line in seen == 2]
    assert sum(len(line) for line in lines) > 500
    for line in lines:
        assert (np.diff(line) == 1).all()


BALL = '<geom type="mesh" mesh="ball" pos="0 1.5 .6"/>'
PLANE = '<geom type="plane" size="0 0 .1" rgba=".4 .5 .6 1"/>'
SUN = '<light type="directional" pos="0 0 3" dir=".3 .4 -1"/>'


@pytest.mark.parametrize(
    "body",
    [
        BALL,
        SUN
        + SUN.replace('dir=".3', 'dir="-.3')
        + BALL
        + BALL.replace("/>", ' rgba="1 0 0 0"/>')
        + PLANE,
    ],
    ids=["only a mesh", "two shadows"],
)
def test_scenes_of_little_are_drawn_as_by_an_independent_tracer(body: str) -> None:
    model = scene_of(body)
    ours, theirs = (draw(model, engine, 2) for engine in (warp_engine.WarpEngine, GeneralEngine))
    same = ours["segmentation"] == theirs["segmentation"]
    assert same.mean() > 0.995
    np.testing.assert_allclose(ours["depth"][same], theirs["depth"][same], rtol=1e-4, atol=1e-4)
    color = np.abs(ours["rgb"].astype(int) - theirs["rgb"]).max(-1)
    assert (color <= 3).mean() > 0.98, np.quantile(color, [0.5, 0.9, 0.99])


def test_an_empty_scene_is_drawn() -> None:
    seen = draw(scene_of(""), warp_engine.WarpEngine, 2)
    assert (seen["segmentation"] == -1).all() and not seen["depth"].any()


def test_a_plane_is_seen_through_tiles_of_wide_angle() -> None:
    """By which rays go down, in low pictures whose tiles are wider than they are."""
    camera = '<camera name="cam" pos="0 0 1" fovy="111"/>'
    model = mujoco.MjModel.from_xml_string(
        f"<mujoco><worldbody>{PLANE}{camera}</worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    width, height = 23, 4
    engine = warp_engine.WarpEngine(
        model, EngineSettings([RenderCamera("cam", 0, width, height, 111.0)], 1, 1, 1)
    )
    y, x = np.mgrid[:height, :width] + 0.5
    slope = np.tan(np.radians(111 / 2)) / height
    rays = np.stack([(2 * x - width) * slope, (height - 2 * y) * slope, -np.ones_like(x)], -1)
    far = model.vis.map.zfar * model.stat.extent
    for turn in turns(300):
        data.cam_xmat[0] = turn.ravel()
        down = -(rays @ turn.T)[..., 2]
        seen = engine.draw(RenderState.of(model, data), [0], False, True)[0]["segmentation"][0]
        clear = np.abs(down * far - 1) > 0.01  # its depth there is 1 / down
        np.testing.assert_array_equal((seen == 0)[clear], (down * far > 1)[clear])


def test_a_face_seen_from_its_edge_has_no_depth_of_its_own() -> None:
    """A box of 2.2 to 2.8 m from the eye, one side of which looks like the middle column of pixels."""
    corners = " ".join(
        f"{x} {y} {z}" for x in (-0.3, 0.3) for y in (-0.3, 0.3) for z in (-0.3, 0.3)
    )
    model = mujoco.MjModel.from_xml_string(
        f'''<mujoco><asset><mesh name="box" vertex="{corners}"/></asset><worldbody>
        <geom type="mesh" mesh="box"/><camera name="cam"/></worldbody></mujoco>'''
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    engine = warp_engine.WarpEngine(
        model, EngineSettings([RenderCamera("cam", 0, 161, 121, 40.0)], 1, 1, 1)
    )
    for turn in turns(200):
        data.cam_xmat[0] = data.geom_xmat[0] = turn.ravel()
        data.cam_xpos[0] = 0
        data.geom_xpos[0] = turn @ [-0.3, 0.0, -2.5]
        depth = engine.draw(RenderState.of(model, data), [0], True, False)[0]["depth"]
        there = depth[depth > 0]
        assert len(there) > 500 and there.min() > 2.199 and there.max() < 2.801


def test_powers() -> None:
    """2 ** (e * log2 x) by hand: 0.5 ** 3 = 0.125, and over what light needs to six digits."""
    from simscaleai.rendering.kernels.tile_types import fast_pow

    @wp.kernel(module="unique")
    def powers(x: wp.array(dtype=float), e: wp.array(dtype=float), out: wp.array(dtype=float)):
        i = wp.tid()
        out[i] = fast_pow(x[i], e[i])

    x, e = np.meshgrid(np.geomspace(1e-3, 1.0, 500), [0.0, 1.0, 2.0, 3.0, 10.0, 128.0])
    x, e = np.append(x.ravel(), 0.5), np.append(e.ravel(), 3.0)
    out = wp.zeros(len(x), dtype=float, device="cpu")
    inputs = [wp.array(v, dtype=float, device="cpu") for v in (x, e)]
    wp.launch(powers, len(x), inputs=inputs, outputs=[out], device="cpu")
    assert out.numpy()[-1] == pytest.approx(0.125, rel=1e-6)
    wanted = x.astype(np.float32).astype(float) ** e
    np.testing.assert_allclose(out.numpy(), wanted, rtol=2e-5, atol=1e-37)
