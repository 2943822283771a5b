"""Images drawn while training are those that data generation records."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from simscaleai.datagen import draw_images, generate_dataset
from simscaleai.errors import UserError
from simscaleai.storage.episodes import open_dataset
from simscaleai.training import TrainConfig, train_policy
from simscaleai.training.data.dataset import TrajectoryDataset

SETTINGS = {
    "env_name": "reach",
    "n_episodes": 7,
    "policy_type": "scripted",
    "max_steps": 6,
    "env_kwargs": {"dt": 0.01},
    "cameras": ["wrist_cam", "front_cam"],
    "image_size": 8,
    "show_progress": False,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Recorded images, and states in a file and in shards; randomized."""
    folder = tmp_path_factory.mktemp("data")
    generate_dataset(output_path=folder / "images.h5", **SETTINGS)
    for name, shards in (("states.h5", None), ("states", 3)):
        generate_dataset(
            output_path=folder / name, states_only=True, shard_episodes=shards, **SETTINGS
        )
    return folder


@pytest.mark.parametrize("name", ["states.h5", "states"])
def test_drawn_images_are_the_recorded_ones(made, name):
    recorded = TrajectoryDataset(made / "images.h5", split="train", seq_len=2)
    with open_dataset(made / name) as data:
        assert data.obs_keys == ["ee_pos", "joint_pos", "joint_vel", "target_pos"]
        drawer = draw_images(data, ["wrist_cam", "front_cam"])  # of the noted size
    steps = torch.from_numpy(np.random.default_rng(0).permutation(len(recorded)))
    for cache_mb in (0, None):
        drawn = TrajectoryDataset(
            made / name, split="train", seq_len=2, drawer=drawer, cache_mb=cache_mb
        )
        assert drawn.contract == recorded.contract
        assert drawn.spec.obs == recorded.spec.obs
        assert drawn.in_memory == (cache_mb is None)
        drawn.prepare()
        a, b = recorded.read(steps), drawn.read(steps)
        assert a["observations"].keys() == b["observations"].keys()
        for key, value in a["observations"].items():
            assert torch.equal(value, b["observations"][key]), key
        assert torch.equal(a["actions"], b["actions"])
    sent = pickle.loads(pickle.dumps(drawer))
    one = sent.draw(np.array([2]), np.array([1]))
    with open_dataset(made / "images.h5") as data:
        np.testing.assert_array_equal(
            one["images/front_cam"][0], data.read(2, "obs/images/front_cam")[1]
        )


def test_a_policy_of_images_trains_from_states(made, tmp_path):
    config = TrainConfig(
        model_kwargs={"use_image": True, "hidden_dim": 16},
        dataset_path=str(made / "states"),
        render_cameras=["front_cam"],
        render_size=16,
        max_steps=2,
        batch_size=4,
        checkpoint_dir=str(tmp_path),
        use_tensorboard=False,
        show_progress=False,
        num_workers=2,
    )
    with pytest.raises(UserError, match=r"data\.render names front_cam.*draw="):
        train_policy(config)
    assert train_policy(config, draw=draw_images)["step"] == 2


def test_what_cannot_be_drawn(made, tmp_path):
    with open_dataset(made / "states") as data, pytest.raises(UserError, match="top_cam"):
        draw_images(data, ["top_cam"])
    with pytest.raises(UserError, match="leave out depth and segmentation"):
        generate_dataset(output_path=tmp_path / "a.h5", states_only=True, depth=True, **SETTINGS)
