"""Whether robomimic reads our datasets: its own SequenceDataset, on states, two cameras and depth.

    pip install --no-deps robomimic tensorboardX psutil tqdm termcolor six
    python scripts/check_robomimic.py

robomimic wants packages that cannot be built everywhere, and so it is no dependency of the development
environment; where it is installed without them, `tests/datagen/test_robomimic.py` runs the same check.
Recorded with robomimic 0.3.0, PyTorch 2.13.0, h5py 3.16.0 and MuJoCo 4.0.0: every check passed.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import gymnasium
import numpy as np
import torch

from simscaleai.datagen import generate_dataset, validate_dataset
from simscaleai.storage.episodes import open_dataset

CAMERAS = ("wrist_cam", "front_cam")
LOW_DIM = ["ee_pos", "gripper_state"]
RGB = [f"{camera}_image" for camera in CAMERAS]
DEPTH = [f"{camera}_depth" for camera in CAMERAS]


def write(path: Path) -> None:
    """Four short episodes with everything that is to be read."""
    generate_dataset(
        "pick_place",
        4,
        str(path),
        policy_type="scripted",
        max_steps=12,
        cameras=CAMERAS,
        image_size=16,
        depth=True,
        next_obs=True,
        show_progress=False,
    )


def without_torchvision() -> None:
    """Stand in for torchvision where it is missing: robomimic's networks need it, and its datasets do not."""
    if importlib.util.find_spec("torchvision") is None:
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
            sys.modules.setdefault(name, MagicMock())


def check(path: Path) -> None:
    """Read a file of `write` by robomimic; AssertionError where it gives something else than we do."""
    without_torchvision()
    import robomimic.utils.file_utils as file_utils
    import robomimic.utils.obs_utils as obs_utils
    from robomimic.scripts.split_train_val import split_train_val_from_hdf5
    from robomimic.utils.dataset import SequenceDataset

    obs_utils.initialize_obs_utils_with_obs_specs(
        {"obs": {"low_dim": LOW_DIM, "rgb": RGB, "depth": DEPTH, "scan": []}, "goal": {}}
    )
    keys = [*LOW_DIM, *RGB, *DEPTH]
    shapes: Any = file_utils.get_shape_metadata_from_dataset(str(path), all_obs_keys=keys)
    assert shapes["ac_dim"] == 4 and shapes["use_images"]
    assert shapes["all_shapes"]["wrist_cam_image"] == [3, 16, 16], shapes["all_shapes"]
    assert shapes["all_shapes"]["front_cam_depth"] == [1, 16, 16], shapes["all_shapes"]

    meta = file_utils.get_env_metadata_from_dataset(str(path))
    assert meta["env_name"] == "simscaleai/PickPlace-v0"
    env = gymnasium.make(meta["env_name"], **meta["env_kwargs"])
    env.reset(seed=0)
    env.close()

    with open_dataset(path) as ours:  # closed before robomimic opens it in its own way
        train = ours.split("train")
        steps = sum(ours.episodes[i].length for i in train)
        first = train[0]
        recorded = ours.read(first, "obs/images/front_cam")
        depth = ours.read(first, "obs/depth/wrist_cam")
        actions = ours.read(first, "actions")
    for cache in ("all", None):
        data = SequenceDataset(
            hdf5_path=str(path),
            obs_keys=keys,
            dataset_keys=("actions", "rewards", "dones"),
            load_next_obs=True,
            hdf5_cache_mode=cache,
            filter_by_attribute="train",
        )
        assert len(data) == steps
        sample = data[0]
        np.testing.assert_array_equal(sample["obs"]["front_cam_image"][-1], recorded[0])
        np.testing.assert_array_equal(sample["next_obs"]["front_cam_image"][-1], recorded[1])
        np.testing.assert_array_equal(sample["obs"]["wrist_cam_depth"][-1, ..., 0], depth[0])
        np.testing.assert_array_equal(sample["actions"], actions[:1])
        batch = next(iter(torch.utils.data.DataLoader(data, batch_size=4)))
        assert batch["next_obs"]["wrist_cam_image"].shape == (4, 1, 16, 16, 3)
        data.close_and_delete_hdf5_handle()

    split_train_val_from_hdf5(str(path), val_ratio=0.25)
    report = validate_dataset(path)
    assert report.ok, report.errors


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.h5"
        write(path)
        check(path)
    names = (
        "robomimic",
        "torch",
        "h5py",
        "mujoco-core" if "mujoco" not in sys.modules else "mujoco",
    )
    print("passed with " + ", ".join(f"{name} {version(name)}" for name in names))


if __name__ == "__main__":
    main()
