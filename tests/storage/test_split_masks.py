"""Masks of other tools: whatever they are called and hold, training gets what they say or is told."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.storage.episodes import open_dataset

COUNT = 12


@pytest.fixture
def write(tmp_path):
    def write(empty=(), **masks):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            for i in range(COUNT):
                steps = 0 if i in empty else 3
                file[f"data/demo_{i}/actions"] = np.zeros((steps, 7))
                if steps:
                    file[f"data/demo_{i}/obs/eef"] = np.full((steps, 3), i)
            for name, members in masks.items():
                file[f"mask/{name}"] = np.array([f"demo_{i}" for i in members], dtype="S")
        return open_dataset(tmp_path / "x.h5")

    return write


def rest_of(*left_out):
    return [i for i in range(COUNT) if i not in left_out]


@pytest.mark.parametrize(
    ("masks", "train", "valid"),
    [
        ({}, rest_of(9), [9]),
        ({"core": [0, 1]}, rest_of(9), [9]),
        ({"train": [1, 0]}, [0, 1], rest_of(0, 1)),
        ({"valid": [3]}, rest_of(3), [3]),
        ({"train": [0, 0, 5], "valid": [2], "20_percent": [77]}, [0, 5], [2]),
    ],
)
def test_what_is_for_training(write, masks, train, valid):
    with write(**masks) as data:
        assert (data.split("train"), data.split("valid")) == (train, valid)
        for name in masks.keys() - {"train", "valid"}:
            assert data.split(name) == [i for i in masks[name] if i < COUNT]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"train": [0, 1, 2], "valid": [1, 2]}, r"x\.h5: mask/train and mask/valid have 2 .*demo_1"),
        ({"train": [0, 77]}, r"mask/train names 'demo_77', which is not there"),
        ({"train": [0], "valid": [77]}, r"mask/valid names 'demo_77'"),
    ],
)  # fmt: skip
def test_masks_that_cannot_be_used(write, masks, message):
    with write(**masks) as data:
        for split in ("train", "valid"):
            with pytest.raises(UserError, match=message):
                data.split(split)
        assert data.split("all") == list(range(COUNT))


def test_an_empty_episode_is_in_no_split(write):
    with write(empty=(0, 4), train=[0, 1, 4], valid=[2]) as data:
        assert [e.length for e in data.episodes[:2]] == [0, 3]
        assert (data.example, data.obs_keys) == (1, ["eef"])
        assert data.split("train") == [1]
        assert data.split("all") == rest_of(0, 4)
