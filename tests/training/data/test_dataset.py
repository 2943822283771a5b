from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, default_collate

from simscaleai.errors import MissingFileError, UserError
from simscaleai.training.data.batch import StoredImages
from simscaleai.training.data.dataset import DummyTrajectoryDataset, TrajectoryDataset
from simscaleai.training.data.loader import to_device

# As in conftest.py: five episodes of these lengths, 25 steps; 1 and 4 are the validation split.
LENGTHS = (5, 3, 7, 4, 6)
Make = Callable[..., Path]


def arrays(path: Path, i: int) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        demo = file[f"data/demo_{i}"]
        return {"actions": demo["actions"][:], **{k: v[:] for k, v in demo["obs"].items()}}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_samples_are_the_steps_of_the_file(make_dataset: Make) -> None:
    path = make_dataset()
    data = TrajectoryDataset(path)
    assert len(data) == 25
    assert (data.state_dim, data.action_dim) == (7, 4)
    assert data.contract is not None and data.contract.env_name == "pick_place"
    third = arrays(path, 2)
    sample = data[5 + 3 + 6]  # the last step of episode 2
    obs = sample["observations"]
    assert list(obs) == ["ee_pos", "gripper_state", "target_pos", "state"]
    for key in ("ee_pos", "gripper_state", "target_pos"):
        np.testing.assert_array_equal(obs[key], third[key][6])
    np.testing.assert_array_equal(
        obs["state"],
        np.concatenate([third["ee_pos"][6], third["gripper_state"][6], third["target_pos"][6]]),
    )
    np.testing.assert_array_equal(sample["actions"], third["actions"][6])
    assert all(v.dtype == torch.float32 for v in (*obs.values(), sample["actions"]))
    assert "language" not in sample and "mask" not in sample
    with pytest.raises(IndexError):
        data[25]


def test_splits_follow_the_masks(make_dataset: Make) -> None:
    path = make_dataset()
    train, valid = (TrajectoryDataset(path, split=s) for s in ("train", "valid"))
    assert (len(train), len(valid)) == (5 + 7 + 4, 3 + 6)
    np.testing.assert_array_equal(valid[0]["actions"], arrays(path, 1)["actions"][0])
    np.testing.assert_array_equal(train[5]["actions"], arrays(path, 2)["actions"][0])
    with pytest.raises(UserError, match="split"):
        TrajectoryDataset(path, split="vaild")


def test_statistics_are_of_the_split_alone(make_dataset: Make) -> None:
    path = make_dataset()
    parts = [arrays(path, i) for i in (0, 2, 3)]
    keys = ("ee_pos", "gripper_state", "target_pos")
    state = np.concatenate([np.concatenate([p[k] for k in keys], 1) for p in parts])
    found = TrajectoryDataset(path, split="train").statistics()["state"]
    np.testing.assert_allclose(found.mean, state.mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(found.std, state.std(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_array_equal(found.min, state.min(0))


def test_windows_never_cross_episodes(make_dataset: Make) -> None:
    path = make_dataset()
    data = TrajectoryDataset(path, seq_len=4)
    start = 0
    for i, length in enumerate(LENGTHS):
        actions = arrays(path, i)["actions"]
        for t in range(length):
            sample = data[start + t]
            valid = min(4, length - t)
            expected = np.concatenate([actions[t : t + 4], *[actions[-1:]] * (4 - valid)])
            np.testing.assert_array_equal(sample["actions"], expected)
            assert sample["mask"].tolist() == [True] * valid + [False] * (4 - valid)
            assert sample["observations"]["state"].shape == (7,)
        start += length
    with pytest.raises(UserError, match="seq_len"):
        TrajectoryDataset(path, seq_len=0)


@pytest.mark.parametrize(
    "options", [{}, {"seq_len": 3, "include_language": True}, {"obs_steps": 2, "cache_mb": 0}]
)
def test_batches_equal_collated_samples(make_dataset: Make, options: dict[str, Any]) -> None:
    data = TrajectoryDataset(make_dataset(image_size=8), **options)
    order = [24, 0, 13, 0, 7]
    samples = data.__getitems__(order)
    assert same(data.collate([data[i] for i in order]), data.collate(samples))
    assert data.collate(samples) is samples.batch  # without a copy
    assert same(default_collate(samples), samples.batch)
    assert len(samples) == 5 and same(samples[-1], data[7])
    with pytest.raises(IndexError):
        samples[5]


def test_plain_loaders_work(make_dataset: Make) -> None:
    data = TrajectoryDataset(make_dataset(), include_language=True)
    expected = data.collate([data[i] for i in range(10)])
    assert same(next(iter(DataLoader(data, batch_size=10))), expected)
    fast = DataLoader(data, batch_size=10, collate_fn=data.collate)
    assert same(next(iter(fast)), expected)
    assert same(next(iter(DataLoader(Subset(data, range(20)), batch_size=10))), expected)
    assert same(next(iter(DataLoader(data, batch_size=None)))["actions"], data[0]["actions"])
    shuffled = DataLoader(data, batch_size=10, shuffle=True)
    assert sum(len(b["actions"]) for b in shuffled) == 25


def test_images_are_float_and_channels_first(make_dataset: Make) -> None:
    path = make_dataset(image_size=8)
    data = TrajectoryDataset(path)
    frame = arrays(path, 1)["image"][2]
    image = data[5 + 2]["observations"]["image"]
    assert image.shape == (3, 8, 8) and image.dtype == torch.float32
    np.testing.assert_allclose(image, frame.transpose(2, 0, 1) / 255, atol=1e-7)
    assert data.state_dim == 7


@pytest.mark.parametrize(("method", "cache_mb"), [("fork", None), ("fork", 0), ("spawn", 0)])
def test_workers_open_the_file_themselves(
    make_dataset: Make, method: str, cache_mb: float | None
) -> None:
    data = TrajectoryDataset(make_dataset(image_size=8), cache_mb=cache_mb)
    expected = data.collate([data[i] for i in range(25)])  # a handle is open here now
    loader = DataLoader(data, batch_size=25, num_workers=1, multiprocessing_context=method)
    assert same(next(iter(loader)), expected)
    assert same(pickle.loads(pickle.dumps(data))[3], data[3])


def test_images_that_fit_are_read_once(make_dataset: Make) -> None:
    path = make_dataset(image_size=8)  # 25 x 192 bytes
    from_file, kept = (TrajectoryDataset(path, cache_mb=mb) for mb in (0.004, 0.005))
    assert (from_file.in_memory, kept.in_memory) == (False, True)
    assert TrajectoryDataset(path).in_memory  # by default
    order = [24, 0, 13, 0, 7]
    expected = from_file.__getitems__(order).batch
    assert same(kept.__getitems__(order).batch, expected)
    os.truncate(path, 0)
    assert same(kept.__getitems__(order).batch, expected)
    with pytest.raises(UserError):
        TrajectoryDataset(path)
    assert len(pickle.dumps(kept)) < 25 * 192 + len(
        pickle.dumps(from_file)
    )  # workers read for themselves


def test_batches_of_stored_images_become_floats(make_dataset: Make) -> None:
    data = TrajectoryDataset(make_dataset(image_size=8), include_language=True)
    expected = data.__getitems__([3, 20]).batch
    batch = data.as_stored().__getitems__([3, 20]).batch
    assert isinstance(batch["observations"], StoredImages)
    assert batch["observations"]["image"].shape == (2, 8, 8, 3)
    assert batch["observations"]["image"].dtype == torch.uint8
    assert same(to_device(batch, torch.device("cpu")), expected)
    assert isinstance(data.__getitems__([3])[0]["observations"]["image"], torch.FloatTensor)


def test_observation_windows_never_cross_episodes(make_dataset: Make) -> None:
    path = make_dataset(image_size=8)
    data = TrajectoryDataset(path, obs_steps=3, seq_len=2, cache_mb=0)
    present = TrajectoryDataset(path)
    start = 0
    for length in LENGTHS:
        for t in range(length):
            sample = data[start + t]
            obs = sample["observations"]
            assert sample["obs_mask"].tolist() == [t >= 2, t >= 1, True]
            assert obs["state"].shape == (3, 7) and obs["image"].shape == (3, 3, 8, 8)
            for h, at in enumerate((max(t - 2, 0), max(t - 1, 0), t)):
                row = {key: value[h] for key, value in obs.items()}
                assert same(row, present[start + at]["observations"])
            assert torch.equal(sample["actions"][0], present[start + t]["actions"])
            assert sample["mask"].tolist() == [True, t + 1 < length]
        start += length
    order = [24, 0, 13, 0, 7]
    batch = data.__getitems__(order).batch
    assert same(batch, data.collate([data[i] for i in order]))
    assert batch["observations"]["image"].shape == (5, 3, 3, 8, 8)
    with pytest.raises(UserError, match="obs_steps"):
        TrajectoryDataset(path, obs_steps=0)


def test_obs_keys_choose_and_unknown_ones_are_named(make_dataset: Make) -> None:
    path = make_dataset(image_size=8)
    data = TrajectoryDataset(path, obs_keys=["target_pos", "ee_pos"])
    assert list(data[0]["observations"]) == ["ee_pos", "target_pos", "state"]
    assert data.state_dim == 6 and data.in_memory
    only_image = TrajectoryDataset(path, obs_keys=["image"])
    assert list(only_image[0]["observations"]) == ["image"]
    with pytest.raises(UserError, match=r"'ee_pso'.*Did you mean 'ee_pos'"):
        TrajectoryDataset(path, obs_keys=["ee_pso"])


def test_transform_sees_single_samples(make_dataset: Make) -> None:
    path = make_dataset()

    def double(sample: dict[str, Any]) -> dict[str, Any]:
        assert sample["actions"].shape == (4,)
        return {**sample, "actions": 2 * sample["actions"]}

    data = TrajectoryDataset(path, transform=double)
    batch = next(iter(DataLoader(data, batch_size=5)))
    np.testing.assert_array_equal(batch["actions"], 2 * arrays(path, 0)["actions"])


def test_plain_layout(plain_dataset: Path) -> None:
    data = TrajectoryDataset(plain_dataset, include_language=True)
    assert len(data) == 25 and data.contract is None
    assert data[6]["language"] == "task 1"
    sizes = [len(TrajectoryDataset(plain_dataset, split=s)) for s in ("train", "valid")]
    assert sum(sizes) == 25


def test_bad_files_are_clear_errors(make_dataset: Make, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        TrajectoryDataset(tmp_path / "absent.h5")
    path = make_dataset()
    with h5py.File(path, "a") as file:
        del file["data/demo_3/obs/ee_pos"]
        file["data/demo_3/obs/ee_pos"] = np.zeros((4, 2), np.float32)
    with pytest.raises(UserError, match=r"ee_pos.*demo_3.*steps of \(2,\)"):
        TrajectoryDataset(path)


def test_scalar_series_count_as_one_column(make_dataset: Make) -> None:
    path = make_dataset()
    with h5py.File(path, "a") as file:
        for i, length in enumerate(LENGTHS):
            del file[f"data/demo_{i}/obs/gripper_state"]
            file[f"data/demo_{i}/obs/gripper_state"] = np.full(length, i, np.float64)
    data = TrajectoryDataset(path)
    assert data.state_dim == 7
    assert data[24]["observations"]["gripper_state"].tolist() == [4.0]


def test_dummy_data_has_the_documented_shapes_and_repeats() -> None:
    data = DummyTrajectoryDataset(
        50, obs_dim=6, action_dim=3, image_size=(8, 10), include_image=True, include_language=True
    )
    assert len(data) == 50
    sample = data[7]
    assert sample["observations"]["state"].shape == (6,)
    assert sample["observations"]["image"].shape == (3, 8, 10)
    assert sample["actions"].shape == (3,) and sample["actions"].abs().max() <= 1
    assert isinstance(sample["language"], str)
    assert same(sample, DummyTrajectoryDataset(50, 6, 3, (8, 10), True, True)[7])
    other = DummyTrajectoryDataset(50, 6, 3, seed=43)
    assert not torch.equal(other[7]["actions"], sample["actions"])
    batch = next(iter(DataLoader(data, batch_size=4)))
    assert same(batch, data.collate([data[i] for i in range(4)]))


def test_dummy_defaults() -> None:
    sample = DummyTrajectoryDataset()[0]
    assert sample["observations"]["state"].shape == (20,)
    assert sample["actions"].shape == (4,)
    assert set(sample) == {"observations", "actions"}


def test_dummy_windows() -> None:
    data = DummyTrajectoryDataset(9, 6, 3, (8, 10), True, seq_len=4, obs_steps=2)
    sample = data[3]
    assert sample["observations"]["state"].shape == (2, 6)
    assert sample["observations"]["image"].shape == (2, 3, 8, 10)
    assert (sample["actions"].shape, sample["mask"].shape) == ((4, 3), (4,))
    assert sample["obs_mask"].all()
    batch = next(iter(DataLoader(data, batch_size=4)))
    assert same(batch, data.collate([data[i] for i in range(4)]))
