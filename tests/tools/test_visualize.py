"""The viz commands: each writes a picture that shows something, without OpenGL, or says why not."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image, ImageSequence

from simscaleai.datagen import generate_dataset
from simscaleai.errors import UserError
from simscaleai.rollout.policy_source import find_policy_source
from simscaleai.tools import cli, visualize
from simscaleai.tools.figures.rollout import record
from simscaleai.tools.figures.style import GREEN, LINE, RED
from simscaleai.tools.figures.tiles import BORDER
from simscaleai.tracking import RunLog

DPI = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset and two runs."""
    folder = tmp_path_factory.mktemp("data")
    generate_dataset("reach", 2, str(folder / "reach.h5"), "random", max_steps=5)
    for name, value in (("a", "loss"), ("b", "timesteps")):
        with RunLog(folder / name, use_tensorboard=False) as log:
            for step in range(1, 4):
                log.record(step, {value: 1 / step})
    return folder


def run(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of `simscale words`."""
    with pytest.raises(SystemExit) as end:
        cli.main(words.split())
    assert isinstance(end.value.code, int)
    return end.value.code, *capsys.readouterr()


def check_picture(path: Path, width: float, height: float) -> None:
    """It is there, as large as it should be (inches), and shows something."""
    picture = iio.imread(path)[..., :3]
    np.testing.assert_allclose(picture.shape, (DPI * height, DPI * width, 3), atol=1.01)
    colors = picture.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    assert np.ptp(picture) > 100 and picture.std() > 15 and len(np.unique(colors)) > 50


@pytest.mark.parametrize(
    ("words", "width", "height"),
    [
        ("viz-dataset {}/reach.h5", 9.6, 5.0),
        ("viz-trajectory {}/reach.h5 --episode 1", 10.6, 6.5),
        ("viz-training {}/a", 8.4, 5.7),
        ("viz-rl {}/b", 10.6, 5.5),
    ],
)
def test_other_commands_write_a_picture_too(
    words: str,
    width: float,
    height: float,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "new" / "picture.png"
    code, out, _ = run(f"{words.format(folder)} --save {path}", capsys)
    assert (code, out) == (0, f"Wrote {path}.\n")
    check_picture(path, width, height)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("viz-env --env-name rech --save a.png", "Did you mean 'reach'"),
        ("viz-env --policy nobody --save a.png", "Unknown policy 'nobody'"),
        ("viz-cameras --cameras eye --save a.png", "Unknown camera 'eye'"),
        ("viz-dataset nope.h5 --save a.png", "nope.h5 does not exist"),
        ("viz-trajectory {}/reach.h5 --episode 2 --save a.png", "has the episodes 0 to 1"),
        ("viz-training . --save a.png", "has no metrics.jsonl"),
        ("viz-rl {}/a --save a.png", "viz-training"),
        ("viz-dataset {}/reach.h5 --save a.doc", "'.doc'; it may be"),
        ("viz-dataset {}/reach.h5", "--save"),
        ("viz-video --save a.avi", ".mp4"),
        ("viz-video --speed 0 --save a.gif", "between 0.01 and 100"),
        ("viz-video --only failed --save a.gif", "Did you mean 'failures'"),
        ("viz-video --env dtt=1 --save a.gif", "Did you mean 'dt'"),
        ("viz-video --env seed=1 --save a.gif", "--seed"),
        ("viz-video --camera-pose a:1,2 --save a.gif", "side_cam:1,0.8,0.6:0.4,0,0.1"),
        ("viz-video --randomize hevy --save a.mp4", "Did you mean 'heavy'"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: str,
    message: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    code, out, err = run(words.format(folder), capsys)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ") and err.count("\n") == 1 and message in err
    assert list(tmp_path.iterdir()) == []


def border(tile: np.ndarray) -> np.ndarray:
    """The mean color (3,) of a tile's left border, in [0, 1]; the codec blurs it a little."""
    return tile[10:-10, 1 : BORDER - 1].mean((0, 1)) / 255


def test_a_video_has_every_step_and_marks_how_episodes_ended(tmp_path: Path) -> None:
    done = visualize.record_video(tmp_path / "a", "reach", n_episodes=2, size=32)
    path = tmp_path / "a.mp4"
    assert done["output_path"] == str(path) and done["n_episodes"] == done["successes"] == 2
    video = iio.imread(path, plugin="FFMPEG")
    wide = 32 + 2 * BORDER
    assert video.shape == (done["frames"], wide, 2 * wide, 3)
    rest = round(visualize.REST / 0.05)
    assert len(video) > rest + 3
    assert iio.immeta(path, plugin="FFMPEG")["fps"] == 20
    np.testing.assert_allclose(border(video[-1][:, wide:]), to_rgb(GREEN), atol=0.1)
    assert np.abs(border(video[0][:, wide:]) - to_rgb(GREEN)).max() > 0.2
    moved = np.abs(video[0].astype(int) - video[-rest])[BORDER:-BORDER].max(-1) > 40
    assert moved.mean() > 0.01


def test_a_video_of_failure(tmp_path: Path) -> None:
    source = find_policy_source("random", "reach")
    short = replace(source, config=replace(source.config, max_episode_steps=4))
    snapshots = record(short, 1, size=(32, 32))
    done = visualize.write_rollout(tmp_path / "a.mp4", snapshots, 0.05)
    assert done["successes"] == 0 and done["frames"] == 5 + 20
    video = iio.imread(tmp_path / "a.mp4", plugin="FFMPEG")
    np.testing.assert_allclose(border(video[-1]), to_rgb(RED), atol=0.1)


def test_slow_motion_as_a_gif(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.gif"
    words = (
        "viz-video --policy random --episode 7 --episode 9 --env max_episode_steps=4 --speed 0.5"
    )
    code, out, _ = run(f"{words} --camera front_cam:40x32 --save {path}", capsys)
    assert (code, out) == (0, f"0 of 2 episodes succeeded: {path}\n")
    with Image.open(path) as image:
        assert image.size == (2 * (40 + 2 * BORDER), 32 + 2 * BORDER) and image.is_animated
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    # 0.05 s at half the speed are 100 ms; 5 states, and 1 s of rest in one stored frame
    assert len(durations) <= 5 and durations[0] >= 100 and durations[-1] >= 1000
    assert sum(durations) == 100 * (5 + 10)


HIDDEN = """
import ctypes, ctypes.util, sys

def missing(name):
    return any(part in str(name) for part in ("GL", "OSMesa", "X11"))

load, find = ctypes.CDLL.__init__, ctypes.util.find_library
def load_others(self, name, *args, **kwargs):
    if missing(name):
        raise OSError(f"{name}: cannot open shared object file")
    load(self, name, *args, **kwargs)
ctypes.CDLL.__init__ = load_others
ctypes.util.find_library = lambda name: None if missing(name) else find(name)

GL = ("OpenGL", "glfw", "mujoco.egl", "mujoco.osmesa", "mujoco.glfw", "mujoco.cgl")

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in GL or name.startswith("OpenGL."):
            raise ImportError(f"{name} is hidden")

sys.meta_path.insert(0, Hidden())
import mujoco
try:
    mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"))
except Exception:
    pass
else:
    raise AssertionError("OpenGL is not hidden")
from simscaleai.tools.cli import main

for words in (
    "viz-env --env-name reach --n-steps 2 --size 16 --save env.png",
    "viz-cameras --env-name pick_place --cameras front_cam --n-steps 1 --size 16 --save cameras.png",
    "viz-video --env-name reach --n-episodes 1 --n-steps 2 --size 32 --randomize --save video.mp4",
    "datagen --env-name reach --n-episodes 1 --max-steps 4 --cameras front_cam --image-size 16 -o data.h5",
):
    try:
        main(words.split())
    except SystemExit as end:
        assert end.code == 0, words
try:
    with open("/proc/self/maps") as maps:
        loaded = [line for line in maps if "libEGL" in line or "libOSMesa" in line or "libGL" in line]
except FileNotFoundError:
    loaded = []
assert not loaded, loaded
"""


@pytest.mark.slow
def test_cameras_need_no_opengl(tmp_path: Path) -> None:
    hidden = {"MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY"}
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    check_picture(tmp_path / "env.png", 3 * 2.1, 2.7 + LINE)  # a line for the instruction
    check_picture(tmp_path / "cameras.png", 10.0, 3.25)
    video = iio.imread(tmp_path / "video.mp4", plugin="FFMPEG")
    assert len(video) == 3 + 20 and video[0].std() > 15
    assert (tmp_path / "data.h5").exists()


def test_a_video_is_mp4_or_gif() -> None:
    with pytest.raises(UserError, match=r"ends with \.mp4 or \.gif, not a\.webm"):
        visualize.record_video("a.webm")
