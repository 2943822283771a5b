"""Files whose headers are written without the HDF5 library: it reads and changes them like its own."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from simscaleai.storage.episode_writer import EpisodeWriter, fits_raw
from simscaleai.storage.episodes import open_dataset
from simscaleai.storage.lookup3 import lookup3_checksums


def vectors(make_episode, i, steps):
    """An episode without an image; of 300 steps a dimension takes two bytes."""
    episode = make_episode(i, steps, language="" if i == 1 else f"reach target {i} ü")
    del episode.obs["image"]
    return episode


@pytest.fixture
def pair(tmp_path, contract, make_episode):
    """The same episodes written both ways."""
    paths = []
    for name, raw in (("raw.h5", True), ("library.h5", False)):
        paths.append(tmp_path / name)
        with EpisodeWriter(paths[-1], contract, seed=1, raw=raw) as writer:
            order = [3, 0, 2, 1, 4]  # in which episodes end
            episodes = {i: vectors(make_episode, i, (4, 300, 1, 7, 255)[i]) for i in order}
            writer.add_all(episodes.items())
    return paths


def test_checksums_are_those_of_lookup3():
    # lookup3.c: hashlittle("Four score and seven years ago", 30, 0) is 0x17770551
    text = np.frombuffer(b"Four score and seven years ago", np.uint8)
    for count in (1, 3):  # by Python's integers, and by arrays
        found = lookup3_checksums(np.tile(text, (count, 1)))
        assert [int.from_bytes(row.tobytes(), "little") for row in found] == [0x17770551] * count


def test_both_ways_write_the_same(pair):
    with open_dataset(pair[0]) as raw, open_dataset(pair[1]) as library:
        assert raw.index is not None
        assert raw.episodes == library.episodes
        assert raw.splits() == library.splits()
        assert raw.attribute("content_hash") == library.attribute("content_hash")
        for i in range(5):
            assert raw.keys(i) == library.keys(i)
            assert raw.checksum(i) == library.checksum(i)
            assert raw.digest(i) == library.digest(i)


def test_h5py_reads_and_changes_it(pair):
    with h5py.File(pair[0], "r+") as raw, h5py.File(pair[1]) as library:
        for name, demo in library["data"].items():
            assert dict(raw["data"][name].attrs) == dict(demo.attrs)
            assert {k: type(v) for k, v in raw["data"][name].attrs.items()} == {
                k: type(v) for k, v in demo.attrs.items()
            }
            for key in ("actions", "dones", "states", "obs/ee_pos"):
                assert raw["data"][name][key].dtype == demo[key].dtype
                np.testing.assert_array_equal(raw["data"][name][key], demo[key])
        del raw["data/demo_3"]
        del raw["data/demo_0"].attrs["language"]
        raw["data/demo_0"].attrs["note"] = "new"
        raw["data/demo_0/obs/extra"] = np.arange(4)
        raw["data/demo_0/actions"][0] = 7
        for i in range(20):  # more links than a compact group takes
            raw[f"data/more_{i}"] = np.arange(i)
    with h5py.File(pair[0]) as raw:
        assert len(raw["data"]) == 24
        assert raw["data/demo_0"].attrs["note"] == "new"
        assert raw["data/demo_0/actions"][0].tolist() == [7] * 4
        assert raw["data/demo_4/states"].shape == (255, 11)


def test_an_error_leaves_no_open_file(tmp_path, contract, make_episode):
    with pytest.raises(KeyError), EpisodeWriter(tmp_path / "a.h5", contract, raw=True) as writer:
        writer.add(0, vectors(make_episode, 0, 3))
        raise KeyError
    (tmp_path / "a.h5").unlink()


def test_where_it_fits(contract):
    assert not fits_raw(contract, 10, 100)  # it has an image
    shapes = {"ee_pos": (3,)}
    vectors_only = type(contract)("reach", {}, shapes, {"ee_pos": "float32"}, 4, 0.05)
    assert fits_raw(vectors_only, 1000, 200)
    assert not fits_raw(vectors_only, 1_000_000, 200) and not fits_raw(vectors_only, 10, 100_000)
