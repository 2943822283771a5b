"""The index: the same as HDF5 says, used only while it is true, and never believed further than it can be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from simscaleai.storage import index
from simscaleai.storage.episodes import EpisodeWriter, open_dataset
from simscaleai.storage.index import NO_TABLE, Index
from simscaleai.storage.sealed_index import seal
from simscaleai.storage.step_reader import StepReader
from simscaleai.storage.vetting import trust

COUNT = 9
KEYS = ("actions", "states", "obs/ee_pos", "obs/image")


@pytest.fixture(scope="module")
def written(tmp_path_factory, contract, make_episode):
    """Episodes of one chunk and of several."""
    path = tmp_path_factory.mktemp("written") / "x.h5"
    with EpisodeWriter(path, contract, seed=1) as writer:
        for i in reversed(range(COUNT)):
            writer.add(i, make_episode(i, steps=900 if i == 3 else 3 + i, language=f"task {i % 2}"))
    return path


@pytest.fixture
def path(written, tmp_path):
    """A copy of them."""
    path = Path(shutil.copy(written, tmp_path / "x.h5"))
    trust(path)
    return path


def contents(path, *, use_index=True):
    """Episodes, and all rows of some arrays; whether an index was used."""
    with open_dataset(path, use_index=use_index) as data:
        every = range(len(data))
        chosen = [i for i in every if i % 2]
        rows = [StepReader(data, of, key) for key in KEYS for of in (every, chosen)]
        arrays = [reader.read_all() for reader in rows]
        arrays += [reader.read(np.arange(len(reader))[::-7]) for reader in rows]
        for reader in rows:
            reader.close()
        return data.episodes, data.obs_keys, arrays, data.index is not None


def assert_same(a, b):
    assert a[:2] == b[:2]
    for x, y in zip(a[2], b[2], strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_index_says_what_hdf5_says(path):
    with_index, without = contents(path), contents(path, use_index=False)
    assert with_index[3] and not without[3]
    assert_same(with_index, without)
    with open_dataset(path) as data:
        assert all(StepReader(data, [1, 0], key).direct for key in KEYS)
        np.testing.assert_array_equal(
            with_index[2][0], np.concatenate([data.read(i, "actions") for i in range(COUNT)])
        )


def rewritten(file):
    """An array of its old size, in its old place or a new one."""
    values = file["data/demo_1/actions"][()]
    file["data/demo_1/actions"][...] = 1 - values


def replaced(file):
    values = file["data/demo_1/actions"][()]
    del file["data/demo_1/actions"]
    file["data/demo_1/actions"] = 1 - values


def exchanged(file):
    file.move("data/demo_1", "data/demo_x")
    file.move("data/demo_4", "data/demo_1")
    file.move("data/demo_x", "data/demo_4")


def shortened(file):
    for key in (*KEYS, "rewards", "dones"):
        values = file[f"data/demo_1/{key}"][:2]
        del file[f"data/demo_1/{key}"]
        file[f"data/demo_1/{key}"] = values
    file["data/demo_1"].attrs["num_samples"] = 2


def relabelled(file):
    file["data/demo_1"].attrs["success"] = not file["data/demo_1"].attrs["success"]


def deleted(file):
    del file["data/demo_8"]


def added(file):
    file.copy("data/demo_1", "data/demo_9")


def masked(file):
    file["mask/core"] = np.array(["demo_1"], dtype="S")


@pytest.mark.parametrize(
    "change",
    [rewritten, replaced, exchanged, shortened, relabelled, deleted, added, masked],
    ids=lambda change: change.__name__,
)
def test_what_another_tool_changes_is_read(path, change):
    with h5py.File(path, "r+") as file:
        change(file)
    assert_same(contents(path), contents(path, use_index=False))


def test_a_copy_has_its_index(path, tmp_path):
    shutil.copy(path, tmp_path / "y.h5")
    assert contents(tmp_path / "y.h5")[3]


def head_of(raw):
    size = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def with_head(raw, **changes):
    head, body = head_of(raw)
    text = json.dumps({**head, **changes}).encode()
    return len(text).to_bytes(8, "little") + text + body


def many_times(raw, word, number):
    """Every number of the column at `word` of the table replaced."""
    body = head_of(raw)[1]
    numbers = np.frombuffer(body, "<i8").copy()
    numbers[word * COUNT : (word + 1) * COUNT] = number
    return with_head(raw)[: len(raw) - len(body)] + numbers.tobytes()


@pytest.mark.parametrize(
    "lie",
    [
        lambda raw: raw[:100],
        lambda raw: b"",
        lambda raw: b"\xff" * len(raw),
        lambda raw: raw + bytes(8),
        lambda raw: with_head(raw, episodes=2**60),
        lambda raw: with_head(raw, episodes=-1),
        lambda raw: with_head(raw, episodes="all"),
        lambda raw: with_head(raw, texts=[]),
        lambda raw: with_head(raw, arrays={}),
        lambda raw: with_head(raw, arrays=[1]),
        lambda raw: many_times(raw, 0, 2**40),  # lengths
        lambda raw: many_times(raw, 0, 0),
        lambda raw: many_times(raw, 3, 7),  # instructions
        lambda raw: many_times(raw, 4, 2**50),  # offsets
        lambda raw: many_times(raw, 4, -5),
    ],
)
def test_a_table_that_claims_the_impossible_is_refused(path, lie):
    with open_dataset(path) as data:
        raw = data.index.encode()
    assert Index.decode(raw, path.stat().st_size).encode() == raw
    with pytest.raises(NO_TABLE):
        Index.decode(lie(raw), path.stat().st_size)


@pytest.mark.parametrize(
    "lie", [lambda raw: bytes(len(raw)), lambda raw: many_times(raw, 0, 2**40)]
)
def test_a_file_whose_table_lies_is_read_without(path, lie):
    """Sealed with a checksum that is right, as whoever wants to deceive would do it."""
    truth = contents(path)
    with open_dataset(path) as data:
        table = data.index
    with h5py.File(path) as file:
        place = file[index.NAME].id.get_offset()
    raw = lie(table.encode())
    table.encode = lambda: raw
    seal(path, table, place)
    found = contents(path)
    assert not found[3]
    assert_same(found, truth)
