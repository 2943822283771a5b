"""Names in the file: flat, one for each camera whatever it is called, and read back from both forms."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest

from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.storage.episodes import EpisodeWriter, open_dataset
from simscaleai.storage.obs_names import file_names


def contract_of(cameras: list[str], *, depth: bool = False) -> EnvContract:
    shapes: dict[str, tuple[int, ...]] = {"ee_pos": (3,), "image": (8, 6, 3)}
    if len(cameras) > 1:
        shapes |= {f"images/{c}": (8, 6, 3) for c in cameras}
    if depth:
        shapes |= {f"depth/{c}": (8, 6) for c in cameras}
    return EnvContract("reach", {"cameras": [{"name": c} for c in cameras]}, shapes, {}, 4, 0.05)


def episode_of(contract: EnvContract, example):
    rng = np.random.default_rng(0)
    obs = {k: rng.integers(0, 99, (5, *s)) for k, s in contract.obs_shapes.items()}
    obs = {k: v.astype(np.uint8 if k.startswith("image") else np.float32) for k, v in obs.items()}
    first = next((c["name"] for c in contract.env_config["cameras"]), None)
    if f"images/{first}" in obs:
        obs["image"] = obs[f"images/{first}"]
    return replace(example, obs=obs)


@pytest.mark.parametrize(
    ("cameras", "depth", "expected"),
    [
        ([], False, {"ee_pos", "image"}),
        (["top"], False, {"ee_pos", "top_image"}),
        (["arm/wrist"], True, {"ee_pos", "arm_wrist_image", "arm_wrist_depth"}),
        (["top", "arm/wrist"], False, {"ee_pos", "top_image", "arm_wrist_image"}),
        (["a/b/c", "a_b/c", "a/b_c"], False, {"ee_pos", "a_b_c_image", "a_b_c_image_", "a_b_c_image__"}),
    ],
)  # fmt: skip
def test_written_flat_and_read_back(tmp_path, make_episode, cameras, depth, expected):
    contract = contract_of(cameras, depth=depth)
    episode = episode_of(contract, make_episode(0))
    with EpisodeWriter(tmp_path / "x.h5", contract) as writer:
        writer.add(0, episode)
    with h5py.File(tmp_path / "x.h5") as file:
        assert set(file["data/demo_0/obs"]) == expected
        assert all(isinstance(v, h5py.Dataset) for v in file["data/demo_0/obs"].values())
        if depth:
            assert file["data/demo_0/obs/arm_wrist_depth"].shape == (5, 8, 6, 1)
    for use_index in (True, False):
        with open_dataset(tmp_path / "x.h5", use_index=use_index) as data:
            assert (data.index is not None) == use_index
            assert data.obs_keys == sorted(contract.obs_shapes)
            for key, value in episode.obs.items():
                assert data.shape(0, f"obs/{key}") == value.shape
                np.testing.assert_array_equal(data.read(0, f"obs/{key}"), value)
            assert data.checksum(0) == data.episode_attribute(0, "checksum")


def test_files_of_earlier_versions_are_read(tmp_path, make_episode):
    contract = contract_of(["top", "side"], depth=True)
    episode = episode_of(contract, make_episode(0))
    with EpisodeWriter(tmp_path / "x.h5", contract) as writer:
        writer.add(0, episode)
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        obs = file["data/demo_0/obs"]
        for key, name in file_names(contract).items():
            if key != name and key in episode.obs:
                obs[key] = episode.obs[key]
        for name in set(file_names(contract).values()) - {"ee_pos"}:
            del obs[name]
    with open_dataset(tmp_path / "x.h5") as data:
        assert data.obs_keys == sorted(contract.obs_shapes)
        for key, value in episode.obs.items():
            np.testing.assert_array_equal(data.read(0, f"obs/{key}"), value)
        assert data.checksum(0) == data.episode_attribute(0, "checksum")


def test_an_image_that_is_not_its_cameras_is_refused(tmp_path, make_episode):
    contract = contract_of(["top", "side"])
    episode = episode_of(contract, make_episode(0))
    episode.obs["image"] = episode.obs["images/side"]
    with (
        pytest.raises(UserError, match="is not what its camera sees"),
        EpisodeWriter(tmp_path / "x.h5", contract) as writer,
    ):
        writer.add(0, episode)


def foreign(path, **obs):
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_0")
        demo["actions"] = np.zeros((4, 7))
        for key, value in obs.items():
            demo[f"obs/{key.replace('__', '/')}"] = value


def test_observations_nested_to_any_depth(tmp_path):
    cube = np.ones((4, 3))
    foreign(tmp_path / "x.h5", eef=cube, datagen_info__object_pose__cube=2 * cube, a__b__c__d=cube)
    with open_dataset(tmp_path / "x.h5") as data:
        assert data.obs_keys == ["a/b/c/d", "datagen_info/object_pose/cube", "eef"]
        np.testing.assert_array_equal(data.read(0, "obs/datagen_info/object_pose/cube"), 2 * cube)


def test_groups_in_a_circle_are_refused(tmp_path):
    foreign(tmp_path / "x.h5", eef=np.ones((4, 3)), a__b=np.ones((4, 3)))
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["data/demo_0/obs/a/again"] = file["data/demo_0/obs"]
    with pytest.raises(UserError, match=r"obs/.*nested more than 16 groups deep"):
        open_dataset(tmp_path / "x.h5")


def test_pictures_of_other_tools_by_the_names_of_cameras(tmp_path):
    agent, hand = (np.full((4, 8, 8, 3), n, np.uint8) for n in (1, 2))
    foreign(tmp_path / "x.h5", eef=np.ones((4, 3)), agentview_image=agent, hand_image=hand)
    with open_dataset(tmp_path / "x.h5") as data:
        assert data.obs_keys == ["agentview_image", "eef", "hand_image"]
    images = {"wrist": "hand_image", "front": "agentview_image"}
    with open_dataset(tmp_path / "x.h5", images) as data:
        assert data.obs_keys == ["eef", "image", "images/front", "images/wrist"]
        np.testing.assert_array_equal(data.read(0, "obs/images/front"), agent)
        np.testing.assert_array_equal(data.read(0, "obs/image"), hand)
    with open_dataset(tmp_path / "x.h5", {"image": "agentview_image"}) as data:
        assert data.obs_keys == ["eef", "hand_image", "image"]
    with pytest.raises(
        UserError, match=r"data\.images.*'agent_image'; known: agentview_image, eef"
    ):
        open_dataset(tmp_path / "x.h5", {"wrist": "agent_image"})
