"""On a machine without any OpenGL library, everything that is drawn still is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from PIL import Image

pytest.importorskip("mujoco_warp", reason="the ray tracer is not installed")

HIDDEN = """
import ctypes, ctypes.util, sys

def hidden(name):
    return any(part in str(name) for part in ("GL", "OSMesa", "X11"))

load, find = ctypes.CDLL.__init__, ctypes.util.find_library
def load_others(self, name, *args, **kwargs):
    if hidden(name):
        raise OSError(f"{name}: cannot open shared object file")
    load(self, name, *args, **kwargs)
ctypes.CDLL.__init__ = load_others
ctypes.util.find_library = lambda name: None if hidden(name) else find(name)

import mujoco
try:
    mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"))
except Exception:
    pass
else:
    raise AssertionError("OpenGL is not hidden")
from simscaleai.tools.cli import app
for line in sys.stdin.read().splitlines():
    app(line.split(), standalone_mode=False)
"""
COMMANDS = """\
viz-env --env-name reach --n-steps 4 --size 64 --save env.png
viz-cameras --env-name reach --size 64 --save cameras.png
datagen --env-name reach --n-episodes 1 --max-steps 4 --cameras front_cam --image-size 16 --output data.h5
viz-video --env-name reach --n-episodes 1 --n-steps 4 --size 64 --save video.mp4
"""


def test_every_command_that_draws(tmp_path) -> None:
    env = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    run = subprocess.run(
        [sys.executable, "-c", HIDDEN],
        input=COMMANDS,
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    for name in ("env.png", "cameras.png"):
        low, high = Image.open(tmp_path / name).convert("L").getextrema()
        assert high - low > 100, name
    assert (tmp_path / "data.h5").exists() and (tmp_path / "video.mp4").stat().st_size > 1000
