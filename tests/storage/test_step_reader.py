"""Rows of many episodes: in any order, from any layout, in any process."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.storage import step_reader
from simscaleai.storage.episodes import open_dataset
from simscaleai.storage.step_reader import StepReader

LENGTHS = (5, 3, 7, 4)
OPTIONS = {
    "contiguous": {},
    "frames": {"chunks": (1, 4, 6, 3), "compression": "gzip"},
    "threes": {"chunks": (3, 4, 6, 3), "compression": "gzip"},
    "quarters": {"chunks": (2, 2, 4, 3), "compression": "gzip"},
}
DIRECT = {"contiguous", "frames", "threes"}


def frames(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (LENGTHS[i], 4, 6, 3), dtype=np.uint8)


def write(path: Path, episode: int, values: np.ndarray, **options) -> None:
    with h5py.File(path, "a") as file:
        demo = file.require_group(f"data/demo_{episode}")
        if "actions" not in demo:
            demo["actions"] = np.zeros((len(values), 4), np.float32)
        if "obs/image" in demo:
            del demo["obs/image"]
        demo.create_dataset("obs/image", data=values, **options)


@pytest.fixture(params=OPTIONS)
def layout(request) -> str:
    return request.param


def written(path: Path, layout: str) -> Path:
    for i in range(len(LENGTHS)):
        write(path, i, frames(i), **OPTIONS[layout])
    return path


@pytest.fixture
def path(tmp_path, layout) -> Path:
    return written(tmp_path / "x.h5", layout)


def reader(path: Path, episodes=(0, 2, 3)) -> StepReader:
    with open_dataset(path) as data:
        return StepReader(data, list(episodes), "obs/image")


def test_rows_in_any_order(path, layout):
    rows = reader(path)
    everything = np.concatenate([frames(i) for i in (0, 2, 3)])
    assert (len(rows), rows.shape, rows.dtype) == (16, (4, 6, 3), np.uint8)
    assert rows.direct == (layout in DIRECT)
    assert rows.nbytes == everything.nbytes
    for wanted in ([15, 0, 7, 7, 5, 4, 6], [3], list(range(16)), []):
        numbers = np.array(wanted, np.int64)
        np.testing.assert_array_equal(rows.read(numbers), everything[numbers])
    for threads in (1, 3):
        np.testing.assert_array_equal(rows.read_all(threads), everything)


def _first(readers: list[StepReader], results) -> None:
    results.put((os.getpid(), [rows.read(np.array([4, 0])) for rows in readers]))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_open_the_file_themselves(tmp_path, method):
    readers = [reader(written(tmp_path / f"{layout}.h5", layout)) for layout in OPTIONS]
    expected = [rows.read(np.array([4, 0])) for rows in readers]  # handles are open here now
    context = multiprocessing.get_context(method)
    results = context.SimpleQueue()
    process = context.Process(target=_first, args=(readers, results))
    process.start()
    pid, found = results.get()
    process.join()
    assert pid != os.getpid()
    np.testing.assert_array_equal(found, expected)


def test_a_handle_of_another_process_is_not_read(path, layout):
    rows = reader(path)
    expected = rows.read(np.array([3]))
    if layout in DIRECT:  # reads by place, with nothing that two processes could disturb
        assert rows._hdf5 is None
        return
    assert rows._hdf5 is not None
    inherited = rows._hdf5[1]
    rows._hdf5 = (os.getpid() + 1, inherited)  # as a forked worker finds it
    np.testing.assert_array_equal(rows.read(np.array([3])), expected)
    assert rows._hdf5[1] is not inherited


@pytest.mark.parametrize("layout", ["frames"], indirect=True)
def test_a_file_that_changed_is_not_read(path):
    rows = pickle.loads(pickle.dumps(reader(path)))
    write(path, 0, frames(0)[::-1].copy(), **OPTIONS["frames"])
    with pytest.raises(UserError, match="has changed"):
        rows.read(np.array([0]))


@pytest.mark.parametrize("layout", ["frames"], indirect=True)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_damaged_chunk_is_one_sentence(path, threads):
    with h5py.File(path, "a") as file:
        file["data/demo_2/obs/image"].id.write_direct_chunk((3, 0, 0, 0), b"not gzip")
    rows = reader(path)
    with pytest.raises(UserError, match=r"x\.h5.*obs/image.*is not gzip.*refused"):
        rows.read_all(threads)
    rows.read(np.array([0, 1]))


@pytest.mark.parametrize("layout", ["frames"], indirect=True)
def test_a_bomb_is_refused_at_once(path):
    with h5py.File(path, "a") as file:
        bomb = zlib.compress(bytes(2**24), 9)
        file["data/demo_2/obs/image"].id.write_direct_chunk((3, 0, 0, 0), bomb)
    with pytest.raises(UserError, match=r"x\.h5.*obs/image.*a chunk of 16[0-9]{3} bytes for 72 "):
        reader(path)


@pytest.mark.parametrize("layout", ["frames", "contiguous"], indirect=True)
@pytest.mark.parametrize("change", ["size", "dtype", "chunks"])
def test_episodes_that_differ(path, layout, change):
    values = frames(2)
    options = dict(OPTIONS[layout])
    if change == "size":
        values, options = values[:, :2], {}
    elif change == "dtype":
        values = values.astype(np.uint16)
    else:  # the same values, stored in another way: read by HDF5
        options = OPTIONS["quarters"]
    write(path, 2, values, **options)
    if change == "chunks":
        rows = reader(path)
        assert not rows.direct
        np.testing.assert_array_equal(rows.read(np.array([6])), values[1:2])
    else:
        with pytest.raises(UserError, match=r"demo_2.*first episode.*validate"):
            reader(path)


@pytest.mark.parametrize("layout", ["frames"], indirect=True)
def test_no_episodes(path):
    rows = reader(path, ())
    assert len(rows) == 0 and rows.shape == (4, 6, 3)
    assert rows.read_all(2).shape == (0, 4, 6, 3)


def test_chunks_are_read_at_once_where_they_lie_close_together():
    offsets = np.array([100, 140, 30_000, 2**22 - 10, 2**22 + 5, 50])
    sizes = np.array([40, 20, 10, 10, 10, 10])
    found = [(s.start, s.stop) for s in step_reader.spans(offsets, sizes)]
    # apart: 29,840 bytes between the second and the third, megabytes to the fourth, the border of 4 MiB
    # before the fifth, and the sixth lies before it
    assert found == [(0, 2), (2, 3), (3, 4), (4, 5), (5, 6)]
    assert not list(step_reader.spans(offsets[:0], sizes[:0]))
