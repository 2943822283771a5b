"""The dataset file: what is written is read, in the layout that others expect."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from simscaleai.errors import MissingFileError, UserError
from simscaleai.storage.episode import array_checksum, split_episodes
from simscaleai.storage.episodes import EpisodeWriter, open_dataset


@pytest.fixture
def episodes(make_episode):
    return [make_episode(i, steps=3 + i) for i in range(12)]


@pytest.fixture
def path(tmp_path, episodes, contract):
    path = tmp_path / "data.h5"
    with EpisodeWriter(path, contract, seed=3, attributes={"made_by": "test"}) as writer:
        writer.add_all(reversed(list(enumerate(episodes))))
    return path


def test_what_is_written_is_read(path, episodes, contract):
    with open_dataset(path) as data:
        assert [e.name for e in data.episodes] == [f"demo_{i}" for i in range(12)]
        assert data.obs_keys == ["ee_pos", "image"]
        assert data.contract == contract
        assert data.attribute("made_by") == "test"
        for i, episode in enumerate(episodes):
            meta = data.episodes[i]
            assert (meta.length, meta.seed, meta.success) == (3 + i, 2**62 + i, i % 2 == 0)
            assert meta.language == f"reach target {i}"
            assert data.keys(i) == list(episode.arrays())
            for key, value in episode.arrays().items():
                read = data.read(i, key)
                assert read.dtype == value.dtype
                np.testing.assert_array_equal(read, value)
                assert data.shape(i, key) == value.shape
            assert data.checksum(i) == data.episode_attribute(i, "checksum")


def test_the_file_is_closed_even_if_the_writer_lives_on(tmp_path, make_episode, contract):
    with EpisodeWriter(tmp_path / "data.h5", contract) as writer:
        writer.add(0, make_episode(0))
    # Byte 11 of an HDF5 superblock says whether somebody has the file open for writing.
    assert (tmp_path / "data.h5").read_bytes()[11] == 0
    del writer


def test_part_of_an_episode_is_read(path, episodes):
    with open_dataset(path) as data:
        for key in ("actions", "obs/image", "rewards"):
            whole = episodes[9].arrays()[key]
            np.testing.assert_array_equal(data.read(9, key, 4, 7), whole[4:7])
            np.testing.assert_array_equal(data.read(9, key, 10), whole[10:])
            np.testing.assert_array_equal(data.read(9, key, -2), whole[-2:])
            assert len(data.read(9, key, 5, 5)) == 0


def test_long_vectors_and_images_are_chunked_by_time(tmp_path, make_episode, contract):
    steps = 3001  # 3001 * 11 float64 = 264 kB: more than one chunk of 64 KiB, the last one partial
    episode = make_episode(0, steps)
    with EpisodeWriter(tmp_path / "long.h5", contract) as writer:
        writer.add(0, episode)
    with h5py.File(tmp_path / "long.h5") as file:
        demo = file["data/demo_0"]
        assert demo["obs/image"].chunks == (1, 8, 6, 3)
        assert demo["states"].chunks == (65536 // 88, 11)
        for dataset in (demo["states"], demo["obs/image"], demo["actions"]):
            assert dataset.compression == "gzip"
        for key, value in episode.arrays().items():
            np.testing.assert_array_equal(demo[key][()], value)  # h5py's own reading agrees
    with open_dataset(tmp_path / "long.h5") as data:
        np.testing.assert_array_equal(data.read(0, "states", 700, 800), episode.states[700:800])


def test_nested_observation_keys(tmp_path, make_episode, contract):
    episode = make_episode(0)
    episode.obs["images/front_cam"] = episode.obs.pop("image")
    with EpisodeWriter(tmp_path / "nested.h5", contract) as writer:
        writer.add(0, episode)
    with open_dataset(tmp_path / "nested.h5") as data:
        assert data.obs_keys == ["ee_pos", "images/front_cam"]
        found = data.read(0, "obs/images/front_cam")
        np.testing.assert_array_equal(found, episode.obs["images/front_cam"])


def test_split_is_a_function_of_seed_and_count():
    split = split_episodes(100, seed=1, valid_fraction=0.1)
    assert split == split_episodes(100, seed=1, valid_fraction=0.1)
    assert split != split_episodes(100, seed=2, valid_fraction=0.1)
    assert len(split["valid"]) == 10
    assert sorted(split["train"] + split["valid"]) == list(range(100))
    assert split_episodes(2, 0, 0.1) in ({"train": [0], "valid": [1]}, {"train": [1], "valid": [0]})
    assert split_episodes(1, 0, 0.1) == {"train": [0], "valid": []}
    assert split_episodes(5, 0, 0.0)["valid"] == []


def test_splits_of_a_file(path):
    with open_dataset(path) as data:
        expected = split_episodes(12, 3, 0.1)
        assert data.split("train") == expected["train"]
        assert data.split("valid") == expected["valid"]
        assert data.split("all") == list(range(12))
        with pytest.raises(UserError, match=r"split.*'test'; known: all, train, valid"):
            data.split("test")


def test_robomimic_reader(path, episodes):
    """The steps of a robomimic dataset loader, written from its published layout."""
    with h5py.File(path, "r") as file:
        # File: demonstrations are all members of /data, ordered by the number in their name.
        demos = sorted(file["data"], key=lambda name: int(name[5:]))
        assert demos == [f"demo_{i}" for i in range(12)]
        env = json.loads(file["data"].attrs["env_args"])
        assert env["env_name"] == "reach"
        assert env["type"] in (1, 2, 3)  # robosuite, gym, iGibson
        assert isinstance(env["env_kwargs"], dict)
        # Filter keys: byte strings.
        filters = {name: [e.decode() for e in file["mask"][name]] for name in file["mask"]}
        assert filters.keys() == {"train", "valid"}
        assert sorted(filters["train"] + filters["valid"]) == sorted(demos)
        total = 0
        for name, episode in zip(demos, episodes, strict=True):
            demo = file["data"][name]
            length = demo.attrs["num_samples"]
            total += length
            for key in ("actions", "rewards", "dones", "states"):
                assert demo[key].shape[0] == length
            for key in demo["obs"]:
                assert demo["obs"][key].shape[0] == length
            assert demo["actions"].shape == (length, 4)
            assert np.abs(demo["actions"][()]).max() <= 1
            assert demo["dones"][()].astype(np.int64).sum() == demo["dones"][-1] == 1
            # Images: height, width, channel in bytes.
            assert demo["obs/image"].dtype == np.uint8
            assert demo["obs/image"].shape[-1] == 3
            assert demo.attrs["success"] == episode.success
            assert demo.attrs["seed"] == episode.seed
            assert json.loads(demo.attrs["randomization"]) == episode.randomization
            assert demo.attrs["language"] == episode.language
        assert file["data"].attrs["total"] == total
        assert file["data"].attrs["schema_version"] == 1


def test_files_of_other_tools(tmp_path):
    """Robomimic's layout without what we add, and written by h5py with its defaults."""
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        for i in (0, 2, 10):
            demo = file.create_group(f"data/demo_{i}")
            demo.attrs["num_samples"] = 20
            demo["actions"] = np.zeros((20, 7))
            demo["obs/eef"] = np.ones((20, 3), np.float32)
            demo.create_dataset("obs/agentview", data=np.ones((20, 4, 4, 3), np.uint8), chunks=True)
        file["mask/train"] = np.array(["demo_10", "demo_0"], dtype="S")
    with open_dataset(tmp_path / "other.hdf5") as data:
        assert [e.name for e in data.episodes] == ["demo_0", "demo_2", "demo_10"]
        assert data.episodes[0].seed is data.episodes[0].success is data.contract is None
        assert data.split("train") == [0, 2]
        assert data.read(2, "obs/agentview", 3, 4).shape == (1, 4, 4, 3)


def test_plain_layout(tmp_path):
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        for i in range(11):
            episode = file.create_group(f"episode_{i}")
            episode.attrs["language"] = f"do {i}"
            episode["observations/state"] = np.full((i + 1, 3), i, np.float32)
            episode["actions"] = np.zeros((i + 1, 4), np.float32)
            episode["rewards"] = np.zeros(i + 1, np.float32)
    with open_dataset(tmp_path / "plain.h5") as data:
        assert [e.length for e in data.episodes] == list(range(1, 12))
        assert data.episodes[10].language == "do 10"
        assert data.obs_keys == ["state"]
        assert data.keys(0) == ["actions", "obs/state", "rewards"]
        np.testing.assert_array_equal(data.read(10, "obs/state", 0, 1), [[10, 10, 10]])
        assert data.split("valid") == [9]
        assert len(data.split("train")) == 10


def test_checksum_sees_values_dtypes_shapes_and_names():
    base = {"a": np.arange(4.0), "b": np.zeros((2, 2), np.float32)}
    same = {"b": np.zeros((2, 2), np.float32), "a": np.arange(4.0).astype(">f8")}
    assert array_checksum(base) == array_checksum(same)
    for other in (
        {**base, "a": np.arange(4.0) + 1e-15},
        {**base, "a": np.arange(4.0).astype(np.float32)},
        {**base, "b": np.zeros((1, 4), np.float32)},
        {"c": base["a"], "b": base["b"]},
    ):
        assert array_checksum(base) != array_checksum(other)


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("False", False),
        ("true", True),
        (np.float32(1), True),
        (np.int64(0), False),
        (np.array([1.0]), True),
        (np.bytes_(b"no"), False),
        (np.nan, None),
    ],
)
def test_success_of_any_kind(path, stored, read):
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["success"] = stored
    with open_dataset(path) as data:
        assert data.episodes[0].success is read


def test_a_success_that_is_no_flag(path):
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["success"] = "perhaps"
    with pytest.raises(UserError, match=r"demo_0.*'perhaps' is neither true nor false"):
        _ = open_dataset(path).episodes


def test_errors_name_file_and_remedy(tmp_path, path):
    with pytest.raises(MissingFileError, match=r"nowhere\.h5 does not exist"):
        open_dataset(tmp_path / "nowhere.h5")
    (tmp_path / "text.h5").write_text("no HDF5 at all")
    with pytest.raises(UserError, match=r"text\.h5 cannot be read as an HDF5 file"):
        open_dataset(tmp_path / "text.h5")
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cut\.h5 cannot be read"):
        open_dataset(tmp_path / "cut.h5")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(UserError, match="holds no episodes"):
        open_dataset(tmp_path / "empty.h5")
    with open_dataset(path) as data, pytest.raises(UserError, match=r"Unknown array.*Did you mean"):
        data.read(0, "obs/ee_pso")
    with h5py.File(path, "r+") as file:
        file["data"].attrs["schema_version"] = 99
    with pytest.raises(UserError, match="schema version 99"):
        open_dataset(path)
