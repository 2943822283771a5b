"""A folder of shards trains like the file with the same episodes, in memory or in blocks."""

from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from simscaleai.datagen import generate_dataset
from simscaleai.errors import UserError
from simscaleai.storage.episode_file import EpisodeFile
from simscaleai.storage.episodes import open_dataset
from simscaleai.storage.shard_reader import ShardReader
from simscaleai.training.data import dataset
from simscaleai.training.data.dataset import TrajectoryDataset
from simscaleai.training.data.loader import make_loader


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    settings = {"policy_type": "scripted", "max_steps": 12, "env_kwargs": {"dt": 0.005}}
    settings |= {"cameras": ["front_cam"], "image_size": 8, "show_progress": False}
    generate_dataset("reach", 22, folder / "one.h5", **settings)
    generate_dataset("reach", 22, folder / "big", shard_episodes=4, **settings)
    return folder


def assert_same(a, b) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        if isinstance(value, dict):
            assert_same(value, b[key])
        elif isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, b[key], rtol=0, atol=0)
        else:
            assert value == b[key]


@pytest.fixture(params=["in memory", "in blocks"])
def sharded(request, made, monkeypatch):
    """The training split of the folder, and the most bytes of it that stay in memory."""
    if request.param == "in memory":
        return TrajectoryDataset(made / "big", 3, include_language=True, split="train", obs_steps=2)
    monkeypatch.setattr(dataset, "BLOCK_BYTES", 1000)
    data = TrajectoryDataset(
        made / "big", 3, include_language=True, split="train", obs_steps=2, cache_mb=0
    )
    vectors = data._vectors
    vectors._rows = 100  # room for two of the six shards
    vectors._empty()
    return data


def test_samples_are_those_of_the_file(made, sharded):
    whole = TrajectoryDataset(made / "one.h5", 3, include_language=True, split="train", obs_steps=2)
    assert len(whole) == len(sharded)
    steps = torch.from_numpy(np.random.default_rng(0).permutation(len(whole)))
    assert_same(whole.read(steps), sharded.read(steps))
    sent = pickle.loads(pickle.dumps(sharded))
    assert_same(whole.read(steps[:7]), sent.read(steps[:7]))
    for data in (whole, sharded):
        data.seq_len = data.obs_steps = 1  # state and actions are of the same steps
    for part in (steps, *steps.split(5)):
        assert_same(whole.read(part), sharded.read(part))


def test_statistics_are_those_of_the_file(made, sharded):
    whole = TrajectoryDataset(made / "one.h5", split="train")
    for features in (None, lambda state: 2 * state[:, :3]):
        for key, expected in whole.statistics(features).items():
            found = sharded.statistics(features)[key]
            for name in ("mean", "std", "min", "max"):
                torch.testing.assert_close(
                    getattr(found, name), getattr(expected, name), rtol=1e-6, atol=1e-6
                )
            # four of six shards: an estimate
            assert ((found.low - expected.low).abs() <= expected.max - expected.min).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_every_sample_once_per_epoch(made, monkeypatch, workers):
    monkeypatch.setattr(dataset, "BLOCK_BYTES", 1)  # a block for each shard
    data = TrajectoryDataset(made / "big", split="train", cache_mb=0)
    assert not data.in_memory
    whole = TrajectoryDataset(made / "one.h5", split="train")
    expected = torch.cat([whole.read(torch.arange(len(whole)))["observations"]["state"]])
    seen = []
    for rank in (0, 1):
        loader = make_loader(data, 16, seed=3, num_workers=workers, rank=rank, world_size=2)
        batches = list(loader)
        for k, batch in enumerate(batches):
            count, _ = loader.batch_sampler.local_samples(k * 32)
            seen.append(batch["observations"]["state"][:count])
    found = torch.cat(seen)
    order = [np.lexsort(values.numpy().T) for values in (found, expected)]
    torch.testing.assert_close(found[order[0]], expected[order[1]], rtol=0, atol=0)


def test_the_identity_is_of_the_content(made, sharded):
    again = TrajectoryDataset(made / "big", split="train")
    assert again.identity()["digest"]["shards"] == sharded.identity()["digest"]["shards"]
    other = TrajectoryDataset(made / "big", split="valid")
    assert other.identity()["digest"]["shards"] != sharded.identity()["digest"]["shards"]


def test_nan_in_a_shard_is_found_when_it_is_read(made, tmp_path):
    folder = tmp_path / "big"
    folder.mkdir()
    for path in (made / "big").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    path = folder / "shard-00002.h5"
    with h5py.File(path, "r+") as file:
        file["data/demo_1/actions"][0, 0] = np.nan
        size = path.stat().st_size
    if path.stat().st_size == size == (made / "big" / path.name).stat().st_size:
        data = TrajectoryDataset(folder, split="all")
        with pytest.raises(UserError, match=r"shard-00002\.h5: actions has NaN"):
            data.read(torch.arange(len(data)))


def test_shards_without_an_index_are_read_by_several_threads(made, monkeypatch):
    columns = EpisodeFile.columns

    def slow(self, *args):  # so that others open their shards in the meantime
        time.sleep(0.02)
        return columns(self, *args)

    monkeypatch.setattr(EpisodeFile, "columns", slow)
    keys = ["obs/joint_pos", "actions"]
    with open_dataset(made / "big", use_index=False) as data:
        reader = ShardReader(data, data.split("all"), keys)
    expected = [reader.read_shard(j, keys) for j in range(6)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda k: reader.read_shard(k % 6, keys), range(24)))
    for k, arrays in enumerate(found):
        for key in keys:
            np.testing.assert_array_equal(arrays[key], expected[k % 6][key])
