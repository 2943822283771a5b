"""Cameras whose optical axis is not in the middle of the image."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import mujoco
import numpy as np
import pytest

from simscaleai.rendering import Renderer
from simscaleai.rendering.render_state import RenderState, extrinsics, intrinsics
from simscaleai.sim import CameraConfig


def _python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=240
    )


# a calibrated camera: its optical axis is not in the middle of the image
CALIBRATED = """
<mujoco><worldbody><light pos="0 0 3"/><geom type="plane" size="5 5 1" rgba=".5 .5 .5 1"/>
<geom name="ball" type="sphere" size=".08" pos=".1 .05 .08" rgba="1 0 0 1"/>
<geom name="box" type="box" size=".1 .05 .1" pos="-.3 .2 .1" rgba="0 0 1 1"/>
<camera name="eye" pos="0 0 2" resolution="64 48" sensorsize="0.64 0.48" {lens}/>
</worldbody></mujoco>
"""
PRINCIPAL = 'focalpixel="60 60" principalpixel="14 -9"'


def calibrated(lens: str = PRINCIPAL) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(CALIBRATED.format(lens=lens))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def test_the_principal_point_of_a_camera_is_where_the_scene_says() -> None:
    model, data = calibrated()
    renderer = Renderer(model, [CameraConfig("eye", 128, 96, float(model.cam_fovy[0]))])
    lens = renderer.cameras["eye"]
    matrix = intrinsics(lens.width, lens.height, lens.fov, lens.shift)
    # twice the resolution: the focal length doubles, and so does the principal point (32 - 14, 24 + 9)
    np.testing.assert_allclose(matrix, [[120, 0, 36], [0, 120, 66], [0, 0, 1]], rtol=1e-6)
    view = RenderState.of(model, data)
    seen = renderer.render(view, segmentation=True)["eye"]["segmentation"][0]
    for name in ("ball", "box"):
        x, y, z, _ = np.linalg.inv(extrinsics(view, 0)[0]) @ [*data.geom(name).xpos, 1]
        column, row, _ = matrix @ [x, y, z] / z
        assert seen[int(row), int(column)] == model.geom(name).id
    named = Renderer(model, ["eye"]).cameras["eye"]
    assert named.fov == pytest.approx(2 * np.degrees(np.arctan(24 / 60)))
    assert named.shift == lens.shift == pytest.approx((-14 / 48, 9 / 48))


@pytest.mark.parametrize(
    "lens, mentions",
    [
        ('focalpixel="60 50"', ("'eye'", "not square", "60 and 50")),
        ('projection="orthographic" fovy="2"', ("'eye'", "orthographic", "perspective")),
    ],
)
def test_cameras_that_no_engine_draws_are_refused(
    lens: str, mentions: tuple[str, ...], refused: Any
) -> None:
    if "orthographic" in lens:
        text = CALIBRATED.replace('sensorsize="0.64 0.48"', "").format(lens=lens)
        model = mujoco.MjModel.from_xml_string(text)
    else:
        model, _ = calibrated(lens)
    state = RenderState.of(model, mujoco.MjData(model))
    for cameras in (["eye"], [CameraConfig("eye")], []):
        refused(lambda c=cameras: Renderer(model, c).render(state, ["eye"]), *mentions)


AGREE_ON_LENSES = f"""
import sys
import mujoco, numpy as np
from simscaleai.errors import UserError
from simscaleai.rendering import Renderer
from simscaleai.rendering.render_state import RenderState

model = mujoco.MjModel.from_xml_string('''{CALIBRATED.format(lens=PRINCIPAL)}''')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
try:
    ours, theirs = (
        Renderer(model, ["eye"], engine=engine).render(RenderState.of(model, data), segmentation=True)
        for engine in ("warp", "gl")
    )
except UserError as error:
    print(error)
    sys.exit(77)
same = ours["eye"]["segmentation"] == theirs["eye"]["segmentation"]
assert same.mean() > 0.99, same.mean()
assert len(np.unique(theirs["eye"]["segmentation"])) == 3
"""


def test_the_engines_agree_on_the_principal_point() -> None:
    run = _python(AGREE_ON_LENSES, MUJOCO_GL="egl")
    if run.returncode == 77:
        pytest.skip(f"no egl here: {run.stdout.strip()}")
    assert run.returncode == 0, run.stderr
