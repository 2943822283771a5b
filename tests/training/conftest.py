"""Small datasets in both layouts, written with plain h5py."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from simscaleai.contract import EnvContract
from simscaleai.storage.vetting import trust

WIDTHS = {"ee_pos": 3, "gripper_state": 1, "target_pos": 3}  # state is (7,)
STATE_DIM = 7
LENGTHS = (5, 3, 7, 4, 6)
VALID = (1, 4)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two busy test processes with two spinning threads each take turns waiting for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def episode_arrays(i: int, length: int, image_size: int = 0) -> dict[str, np.ndarray]:
    """Arrays of episode i: all values differ, and actions are a fixed function of the state."""
    rng = np.random.default_rng(i)
    obs = {k: rng.normal(i, 1.0 + i, (length, d)).astype(np.float32) for k, d in WIDTHS.items()}
    if image_size:
        obs["image"] = rng.integers(0, 256, (length, image_size, image_size, 3), dtype=np.uint8)
    action = np.tanh(np.concatenate([obs["ee_pos"], obs["gripper_state"]], 1) / 5)
    return {"actions": action.astype(np.float32), **{f"obs/{k}": v for k, v in obs.items()}}


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write a file in the robomimic layout; episode i holds `episode_arrays(i, LENGTHS[i])`."""

    def make(name: str = "data.h5", *, image_size: int = 0, contract: bool = True) -> Path:
        path = tmp_path / name
        shapes: dict[str, Any] = {k: (d,) for k, d in WIDTHS.items()}
        dtypes = dict.fromkeys(WIDTHS, "float32")
        if image_size:
            shapes["image"], dtypes["image"] = (image_size, image_size, 3), "uint8"
        about = EnvContract("pick_place", {"dt": 0.005}, shapes, dtypes, 4, 0.05)
        with h5py.File(path, "w") as file:
            data = file.create_group("data")
            data.attrs["total"] = sum(LENGTHS)
            if contract:
                env_args = {"env_name": "pick_place", "contract": about.to_dict()}
                data.attrs["env_args"] = json.dumps(env_args)
            for i, length in enumerate(LENGTHS):
                demo = data.create_group(f"demo_{i}")
                demo.attrs.update(num_samples=length, seed=i, success=True, language=f"task {i}")
                for key, value in episode_arrays(i, length, image_size).items():
                    demo.create_dataset(key, data=value)
                demo.create_dataset("rewards", data=np.zeros(length, np.float32))
                demo.create_dataset("dones", data=np.arange(length) == length - 1)
            names = {"train": [i for i in range(5) if i not in VALID], "valid": VALID}
            for split, members in names.items():
                file[f"mask/{split}"] = np.array([f"demo_{i}".encode() for i in members])
        trust(path)  # a child process for each file would take longer than the test
        return path

    return make


@pytest.fixture
def plain_dataset(tmp_path: Path) -> Path:
    """A file in the plain layout, without masks or contract."""
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        for i, length in enumerate(LENGTHS):
            group = file.create_group(f"episode_{i}")
            group.attrs["language"] = f"task {i}"
            for key, value in episode_arrays(i, length).items():
                group.create_dataset(key.replace("obs/", "observations/"), data=value)
            group.create_dataset("rewards", data=np.zeros(length, np.float32))
    trust(path)
    return path
