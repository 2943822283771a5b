"""Files that keep the HDF5 library busy for ever, end it or make it large are refused by a child process."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.storage import vetting
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.episode import Episode
from simscaleai.storage.episode_writer import EpisodeWriter
from simscaleai.storage.episodes import open_dataset
from simscaleai.storage.vetting import vet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no process is forked elsewhere")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of one episode, with an attribute of text on a heap."""
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_0")
        demo.attrs["language"] = "reach the red block"
        demo["actions"] = np.zeros((5, 4), "f4")
    return path


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vetting, "SECONDS", 1.0)


def test_good_files_pass(path: Path) -> None:
    vet(path)
    with open_dataset(path) as data:
        assert data.episodes[0].language == "reach the red block"


def test_a_heap_that_the_library_walks_in_circles(path: Path) -> None:
    """The size of a heap's object is such that the next one is at the same place."""
    content = bytearray(path.read_bytes())
    at = content.index(b"reach the red block") - 8
    content[at : at + 8] = (2**64 - 16).to_bytes(8, "little")
    path.write_bytes(content)
    for _ in range(2):  # the second time it is known
        with pytest.raises(UserError, match="makes no progress for 1 s; the file is refused"):
            open_dataset(path)


def test_a_text_that_claims_two_gigabytes(path: Path) -> None:
    """Of the length in the episode's attribute: HDF5 makes room before it looks at the heap."""
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL").to_bytes(8, "little")
    at = content.index(heap) - 4
    assert content[at : at + 4] == (19).to_bytes(4, "little")
    content[at : at + 4] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(UserError, match="takes more than 1024 MiB of memory; the file is refused"):
        open_dataset(path)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "ends the program \\(signal 11\\)"),
        (lambda: os._exit(3), "ends the program"),
        (lambda: bytearray(2**31), "takes more than 1024 MiB of memory"),
        (lambda: time.sleep(60), "makes no progress"),
    ],
    ids=["crash", "exit", "memory", "hang"],
)
def test_whatever_happens_to_the_child(
    path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None], message: str
) -> None:
    monkeypatch.setattr(vetting, "_attributes", lambda file, obj: act())
    with pytest.raises(UserError, match=message):
        vet(path)


def test_a_changed_file_is_vetted_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vet(path)
    monkeypatch.setattr(vetting, "_problem", lambda path: "hangs")
    vet(path)
    path.touch()
    with pytest.raises(UserError, match="hangs"):
        vet(path)


def test_what_this_process_wrote_is_vetted_once_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_episode: Callable[..., Episode]
) -> None:
    monkeypatch.setattr(vetting, "_problem", lambda path: "hangs")
    path = tmp_path / "own.h5"
    with atomic_path(path) as temporary, EpisodeWriter(temporary, None) as writer:
        writer.add(0, make_episode(0))
    for _ in range(2):
        with open_dataset(path) as data:
            assert len(data) == 1
    with h5py.File(path, "r+") as file:
        file["data/demo_0/rewards"][0] += 1
    with pytest.raises(UserError, match="hangs"):
        open_dataset(path)
    # a file that takes its place
    path.write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="hangs"):
        open_dataset(path)


class Waits:
    """Like an object with threads: outside the process that made it, its deletion never ends."""

    def __init__(self) -> None:
        self.process, self.circle = os.getpid(), self

    def __del__(self) -> None:
        while os.getpid() != self.process:
            time.sleep(1)


def test_the_child_deletes_no_objects_of_its_parent(path: Path) -> None:
    gc.collect()
    Waits()
    many: list[object] = []
    # enough new objects for an automatic garbage collection
    vetting.vet_with(path, lambda: many.extend([] for _ in range(100_000)))
