"""A folder of shards is read as one dataset; only what is asked for is opened."""

from __future__ import annotations

import hashlib
import os
import pickle

import numpy as np
import pytest

from simscaleai.errors import MissingFileError, UserError
from simscaleai.storage.env_args import env_args_text
from simscaleai.storage.episode_writer import EpisodeWriter
from simscaleai.storage.episodes import open_dataset
from simscaleai.storage.indexed_shard import IndexedShard
from simscaleai.storage.manifest import Manifest, write_manifest
from simscaleai.storage.shard_reader import ShardArray, ShardReader
from simscaleai.storage.shard_row import ShardRow, shard_name

COUNTS = (3, 2, 4)
VALID = {1, 5}  # of all nine


@pytest.fixture
def folder(tmp_path, contract, make_episode):
    """Nine episodes of 2 to 10 steps in three shards."""
    rows, first = [], 0
    for number, count in enumerate(COUNTS):
        path = tmp_path / "big" / shard_name(number)
        path.parent.mkdir(exist_ok=True)
        episodes = [make_episode(i, 2 + i) for i in range(first, first + count)]
        splits = {"train": [], "valid": []}
        for k in range(count):
            splits["valid" if first + k in VALID else "train"].append(k)
        with EpisodeWriter(path, contract, splits=splits) as writer:
            writer.add_all(enumerate(episodes))
        rows.append(
            ShardRow(
                path.name,
                np.array([len(e) for e in episodes]),
                np.array([e.seed for e in episodes], np.uint64),
                np.array([e.success for e in episodes]),
                [e.language for e in episodes],
                np.array([first + k in VALID for k in range(count)]),
                path.stat().st_size,
                hashlib.sha256(path.read_bytes()).hexdigest(),
                bytes(32 * count),
                index_offset=writer.index_place[0],
                index_bytes=writer.index_place[1],
            )
        )
        first += count
    arrays = {
        "actions": [[4], "float32"],
        "obs/ee_pos": [[3], "float32"],
        "obs/image": [[8, 6, 3], "uint8"],
    }
    about = {"env_args": env_args_text(contract), "arrays": arrays, "shards": 3, "recipe": {"a": 1}}
    write_manifest(tmp_path / "big", Manifest(rows, about))
    return tmp_path / "big"


def test_it_is_read_like_a_file(folder, contract, make_episode):
    with open_dataset(folder) as data:
        assert len(data) == 9
        assert data.contract == contract
        assert data.obs_keys == ["ee_pos", "image"]
        assert data.split("valid") == [1, 5]
        assert data.split("train") == [0, 2, 3, 4, 6, 7, 8]
        assert data.attribute("total") == sum(range(2, 11))
        assert data.attribute("recipe") == '{"a": 1}'
        assert [e.length for e in data.episodes] == list(range(2, 11))
        assert data.episodes[-1] == data.episodes[8]
        for i in (8, 0, 4):  # random access
            episode = make_episode(i, 2 + i)
            about = data.episodes[i]
            assert (about.name, about.seed, about.language) == (
                f"demo_{i}",
                episode.seed,
                episode.language,
            )
            assert data.shape(i, "obs/image") == (2 + i, 8, 6, 3)
            np.testing.assert_array_equal(data.read(i, "obs/image"), episode.obs["image"])
            np.testing.assert_array_equal(data.read(i, "states", 1, 2), episode.states[1:2])
            assert data.episode_attribute(i, "policy") == "scripted"
        with pytest.raises(IndexError):
            data.read(9, "actions")


def test_opening_touches_no_shard(folder, monkeypatch):
    for shard in folder.glob("shard-*"):
        shard.unlink()
    with open_dataset(folder) as data:
        assert data.split("all") == list(range(9))
        assert data.shape(7, "obs/ee_pos") == (9, 3)
        with pytest.raises(MissingFileError, match=r"shard-00001\.h5 is not there"):
            data.read(4, "actions")


def test_a_shard_cut_short(folder):
    os.truncate(folder / shard_name(1), 3000)
    with open_dataset(folder) as data:
        data.read(0, "actions")
        with pytest.raises(UserError, match=r"shard-00001\.h5 has 3000 bytes.*--resume"):
            data.read(4, "actions")


@pytest.mark.parametrize("indexed", [True, False])
def test_steps_of_all_shards_in_any_order(folder, make_episode, indexed):
    with open_dataset(folder, use_index=indexed) as data:
        reader = ShardReader(data, [0, 2, 5, 7, 8], ["obs/image", "actions"])
        with data.open_shard(0) as shard:
            assert isinstance(shard, IndexedShard) == indexed
    episodes = [make_episode(i, 2 + i) for i in (0, 2, 5, 7, 8)]
    images = np.concatenate([e.obs["image"] for e in episodes])
    actions = np.concatenate([e.actions for e in episodes])
    assert reader.shard_steps.tolist() == [2 + 4, 0, 7 + 9 + 10]
    steps = np.random.default_rng(0).permutation(len(reader))
    reader = pickle.loads(pickle.dumps(reader))
    reader.open_shards = 1
    np.testing.assert_array_equal(reader.read("obs/image", steps), images[steps])
    np.testing.assert_array_equal(reader.read_shard(2, ["actions"])["actions"], actions[6:])
    frames = ShardArray(reader, "obs/image")
    assert frames.nbytes == images.nbytes
    np.testing.assert_array_equal(frames.read_all(2), images)


def test_a_shard_that_is_not_what_the_manifest_says(folder, contract, make_episode):
    path = folder / shard_name(0)
    size = path.stat().st_size
    with EpisodeWriter(path, contract) as writer:
        writer.add(0, make_episode(0))
    with path.open("ab") as file:  # the same size: nobody notices by that
        file.write(bytes(size - path.stat().st_size))
    with open_dataset(folder) as data, pytest.raises(UserError, match="1 episodes, and 3 in"):
        data.read(0, "actions")


def test_images_of_another_tool_are_for_files(folder):
    with pytest.raises(UserError, match="is a folder of shards"):
        open_dataset(folder, {"front": "ee_pos"})
