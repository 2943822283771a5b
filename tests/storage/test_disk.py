"""A disk that takes no more is one sentence, whatever library meets it; nothing is left half written."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.disk import REASONS, CannotWriteError, cannot_write, name_disk_errors


@pytest.mark.parametrize("number", REASONS)
def test_the_reason_is_told_and_the_old_file_kept(tmp_path: Path, number: int) -> None:
    final = tmp_path / "final.pt"
    final.write_text("old")
    with pytest.raises(CannotWriteError) as caught, atomic_path(final) as temporary:
        temporary.write_text("new")
        try:
            raise OSError(number, os.strerror(number))
        except OSError:
            raise RuntimeError("a library's own words") from None
    assert str(caught.value).startswith(f"Cannot write {final}: {REASONS[number]}; ")
    assert [path.name for path in tmp_path.iterdir()] == ["final.pt"]
    assert final.read_text() == "old"


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (ValueError("a"), RuntimeError("b"), PermissionError(errno.EACCES, "c")):
        with pytest.raises(type(error), match=error.args[-1]), atomic_path(tmp_path / "a") as path:
            path.write_text("x")
            raise error
        with pytest.raises(type(error), match=error.args[-1]), name_disk_errors(tmp_path / "a"):
            raise error
    assert list(tmp_path.iterdir()) == []


def test_words_of_hdf5_are_understood() -> None:
    told_by_hdf5 = RuntimeError("Can't write data (errno = 28, error message = 'No space left')")
    found = cannot_write(told_by_hdf5, "a.h5")
    assert found is not None and "the disk is full" in str(found)
    again = pickle.loads(pickle.dumps(found.with_sentence("3 are kept.")))  # from a worker process
    assert str(again) == f"{found} 3 are kept." and isinstance(again, CannotWriteError)


LIBRARIES = """
import json, resource, sys
from pathlib import Path
import h5py, numpy as np, torch
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.checkpoint import save_checkpoint
from simscaleai.storage.disk import CannotWriteError
from simscaleai.storage.video import write_video
from simscaleai.tracking.log import RunLog

numbers = np.random.default_rng(0).random(30_000)

def hdf5():
    with atomic_path("a.h5") as path, h5py.File(path, "w") as file:
        for i in range(100):
            file.create_dataset(str(i), data=numbers)

def pictures():
    for i in range(50):
        yield np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8)

def text():
    with atomic_path("a.json") as path:
        path.write_text(json.dumps(numbers.tolist()))

def picture():
    from simscaleai.tools.figures.style import new_figure, save_or_show
    figure = new_figure(4, 4)
    figure.add_subplot().imshow(numbers.reshape(150, 200))
    save_or_show(figure, "a.png")

def records():
    with RunLog(Path("log"), use_tensorboard=False) as log:
        for i in range(2000):
            log.record(i, {"loss": 0.1, "other": 0.2})

def tensorboard():
    with RunLog(Path("curves"), use_tensorboard=True) as log:
        for i in range(2000):
            log.record(i, {"loss": 0.1, "other": 0.2})

writes = {
    "hdf5": hdf5,
    "torch": lambda: save_checkpoint("a.pt", {"a": torch.from_numpy(numbers)}),
    "video": lambda: write_video("a.mp4", pictures(), 20.0),
    "text": text,
    "picture": picture,
    "records": records,
    "tensorboard": tensorboard,
}
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
told = {}
for name, write in writes.items():
    try:
        write()
    except CannotWriteError as error:
        told[name] = str(error)
sys.stdout.write(json.dumps(told))
"""


def test_every_library(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    pytest.importorskip("matplotlib")
    pytest.importorskip("tensorboard")
    ended = subprocess.run(
        [sys.executable, "-c", LIBRARIES],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout) == {
        name: f"Cannot write {file}: the file would be larger than is allowed here; raise the limit"
        " (ulimit -f) or write elsewhere."
        for name, file in {
            "hdf5": "a.h5",
            "torch": "a.pt",
            "video": "a.mp4",
            "text": "a.json",
            "picture": "a.png",
            "records": "log/metrics.jsonl",
            "tensorboard": "curves",
        }.items()
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves", "log"]


def simscale(folder: Path, *words: Any, most_bytes: int | None = None) -> tuple[int, list[str]]:
    """Exit code and lines of complaint of a command that may write files of `most_bytes`."""

    def limit() -> None:
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    ended = subprocess.run(
        [sys.executable, "-m", "simscaleai.tools.cli", *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=limit,
    )
    return ended.returncode, ended.stderr.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_datagen_goes_on_when_there_is_space(tmp_path: Path, workers: int) -> None:
    words = ["datagen", "--n-episodes", 600, "--output", "d.h5", "--workers", workers]
    code, complaint = simscale(tmp_path, *words, most_bytes=2_000_000)
    assert code == 2 and len(complaint) == 1
    assert complaint[0].startswith("Error: Cannot write d.h5.parts/")
    assert (
        "finished episodes are kept in d.h5.parts; run the same command with --resume"
        in complaint[0]
    )
    assert simscale(tmp_path, *words, "--resume") == (0, [])
    assert [path.name for path in tmp_path.iterdir()] == ["d.h5"]


@pytest.mark.slow
def test_train_and_rl_go_on_when_there_is_space(tmp_path: Path) -> None:
    train = ["train", "--max-steps", 40, "--checkpoint-dir", "c", "trainer.save_every=10"]
    train += ["model.hidden_dim=64", "trainer.use_tensorboard=false"]
    assert simscale(tmp_path, *train)[0] == 0
    size = (tmp_path / "c/final.pt").stat().st_size
    for words, name in (
        (train, "step_10.pt"),
        (["rl", "--total-steps", 600, "--name", "r", "num_envs=2", "eval_episodes=2"], "last.pt"),
    ):
        code, complaint = simscale(tmp_path, *words, most_bytes=size // 4)
        assert code == 2 and "Traceback" not in "".join(complaint)
        assert f"{name}: the file would be larger" in complaint[-1]
        assert "There is no checkpoint yet; run the same command again." in complaint[-1]
        assert simscale(tmp_path, *words, "--resume", "auto")[0] == 0
    assert not list(tmp_path.rglob("*.tmp"))
