"""Pictures: the same in a row of a batch and alone, metric, and segmented.

OpenGL is chosen when MuJoCo is imported, so the pictures are taken in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import sys
import numpy as np
try:
    import mujoco
except Exception as error:  # the platform's library is missing
    print(error)
    sys.exit(77)
from simscaleai.errors import UserError
from simscaleai.sim import CameraConfig, make_env, make_vec_env

settings = {"cameras": [CameraConfig("front_cam", 48, 32, fov=50)], "domain_randomization": True}
envs, env = make_vec_env("pick_place", 3, **settings), make_env("pick_place", "rgb_array", **settings)
try:
    batch, _ = envs.reset(seed=4)
except UserError as error:
    print(error)
    sys.exit(77)
one, _ = env.reset(seed=5)
actions = np.random.default_rng(0).uniform(-1, 1, (3, 4))
for _ in range(3):
    assert envs.observation_space.contains(batch) and env.observation_space.contains(one)
    np.testing.assert_array_equal(batch["image"][1], one["image"])
    assert (batch["image"][0] != batch["image"][1]).mean() > 0.1  # colours are the row's own
    batch, one = envs.step(actions)[0], env.step(actions[1])[0]
np.testing.assert_array_equal(env.render(), one["image"])

# straight down on the bare table: depth is the camera's height above it
seen = env.render_camera("overhead_cam", depth=True, segmentation=True)
geoms = seen["segmentation"]
assert seen["depth"].shape == geoms.shape == (32, 48) and geoms.dtype == np.int32
table = env.model.geom("table_top").id
height = env.data.camera("overhead_cam").xpos[2] - 0.0
np.testing.assert_allclose(seen["depth"][geoms == table], height, atol=0.002)
assert (geoms == table).mean() > 0.2 and geoms.min() >= 0
envs.close(), env.close()
"""


@pytest.mark.parametrize("platform", ["egl", "osmesa"])
def test_pictures(platform: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "MUJOCO_GL": platform},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if run.returncode == 77:
        pytest.skip(f"no {platform} here: {run.stdout.strip()}")
    assert run.returncode == 0, run.stderr
