"""Our files for robomimic: its own reader where it is installed, and what it relies on in any case."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest

from simscaleai.datagen import content_hash, generate_dataset, validate_dataset
from simscaleai.storage.episodes import open_dataset

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_robomimic.py"


def test_robomimic_reads_states_two_cameras_and_depth(tmp_path):
    pytest.importorskip("robomimic")
    functions = runpy.run_path(str(SCRIPT))
    functions["write"](tmp_path / "data.h5")
    functions["check"](tmp_path / "data.h5")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("robomimic") / "data.h5"
    options = {"policy_type": "scripted", "show_progress": False, "noise": 0.3, "max_steps": 15}
    options["env_kwargs"] = {"dt": 0.01}
    generate_dataset("reach", 5, str(path), next_obs=True, num_envs=3, **options)
    generate_dataset("reach", 5, str(path.with_name("bare.h5")), **options)
    generate_dataset("reach", 5, str(path.with_name("two.h5")), next_obs=True, **options)
    return path


def test_next_obs_is_what_follows_each_action(path):
    with open_dataset(path) as data, open_dataset(path.with_name("bare.h5")) as bare:
        assert data.obs_keys == bare.obs_keys
        for i, episode in enumerate(data.episodes):
            for key in data.obs_keys:
                after = data.read(i, f"next_obs/{key}")
                np.testing.assert_array_equal(after[:-1], data.read(i, f"obs/{key}")[1:])
            # The last one is of the state after the episode: a hand that has moved on.
            moved = data.read(i, "next_obs/ee_pos")[-1] - data.read(i, "obs/ee_pos")[-1]
            assert 1e-5 < np.linalg.norm(moved) < 0.1, episode
        assert not any(key.startswith("next_obs") for key in bare.keys(0))
    report = validate_dataset(path)
    assert report.ok and report.content_hash == content_hash(path.with_name("two.h5"))


def test_the_environment_has_an_id_of_gymnasium(path):
    with h5py.File(path) as file:
        args = json.loads(file["data"].attrs["env_args"])
    assert args["env_name"] == "simscaleai/Reach-v0"
    with open_dataset(path) as data:
        assert data.contract.env_name == "reach"
        env = gymnasium.make(args["env_name"], **args["env_kwargs"])
        obs, _ = env.reset(seed=data.episodes[1].seed)
        env.close()
        for key in data.obs_keys:
            np.testing.assert_array_equal(obs[key], data.read(1, f"obs/{key}")[0])


def test_another_split_is_no_fault_and_another_attribute_is(path, tmp_path):
    copy = tmp_path / "data.h5"
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "r+") as file:
        del file["mask/train"], file["mask/valid"]
        file["mask/train"] = np.array(["demo_1", "demo_2", "demo_3"], dtype="S")
        file["mask/valid"] = np.array(["demo_0", "demo_4"], dtype="S")
    report = validate_dataset(copy)
    assert report.ok and "the split is not the one" in " ".join(report.warnings)
    with h5py.File(copy, "r+") as file:
        file["data/demo_1"].attrs["success"] = not file["data/demo_1"].attrs["success"]
    assert any("attributes were changed" in error for error in validate_dataset(copy).errors)
