"""Validation finds what is wrong, all of it, and its hash follows content alone."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from simscaleai.datagen import content_hash, generate_dataset, validate_dataset
from simscaleai.errors import MissingFileError, UserError
from simscaleai.storage import index
from simscaleai.storage.episodes import open_dataset
from simscaleai.storage.sealed_index import seal


@pytest.fixture
def path(tmp_path, point_env):
    path = tmp_path / "point.h5"
    generate_dataset("point", 12, path, policy_type="random", max_steps=6)
    return path


def replace(file, name, value):
    del file[name]
    file[name] = value


def test_a_generated_dataset_is_valid(path):
    report = validate_dataset(path)
    assert report.ok
    assert report.errors == report.warnings == []
    assert (report.episodes, report.steps) == (12, 72)
    with h5py.File(path) as file:
        assert report.content_hash == file["data"].attrs["content_hash"] == content_hash(path)


def test_time_that_runs_back_or_leaves_steps_out(path):
    with h5py.File(path, "r+") as file:
        file["data/demo_0/states"][3:, 0] -= 0.15  # as MuJoCo does where the physics is unstable
        file["data/demo_1/states"][3:, 0] += 0.05
    found = "\n".join(validate_dataset(path).errors)
    assert "simulated time runs back: the physics was reset in mid-episode (demo_0)" in found
    assert "simulated time does not advance by 0.05 s a step (demo_1)" in found


def test_everything_wrong_is_found_at_once(path):
    with h5py.File(path, "r+") as file:
        data = file["data"]
        data["demo_0/obs/position"][2, 1] = np.nan
        data["demo_1/actions"][0, 0] = 1.5
        data["demo_2/dones"][1] = True
        data["demo_3/rewards"][0] += 1
        replace(data, "demo_4/obs/position", np.zeros((6, 2), np.float32))
        del data["demo_5/obs/target"]
        replace(data, "demo_6/rewards", np.zeros(5, np.float32))
        data.attrs["total"] = 73
    report = validate_dataset(path)
    assert not report.ok
    assert report.content_hash == ""
    found = "\n".join(report.errors)
    for expected in (
        "obs/position has NaN or infinite values (demo_0)",
        "actions leave [-1, 1]",
        "dones are not up at the last step, and only there (demo_2)",
        "the content differs from the checksum stored with it (6 episodes: demo_0,",
        "obs/position is ((2,), 'float32'), but ((3,), 'float32') before (demo_4)",
        "obs/target is in some episodes and not in others (demo_5)",
        "has 5 steps but 6 actions",
        "the attribute total is 73, but there are 72 steps",
    ):
        assert expected in found


def test_one_changed_bit_is_found(path):
    with h5py.File(path, "r+") as file:
        value = file["data/demo_7/states"][3, 2]
        file["data/demo_7/states"][3, 2] = np.nextafter(value, 1)
    assert validate_dataset(path).errors == [
        "the content differs from the checksum stored with it (demo_7)"
    ]


def test_changed_attributes_are_found(path):
    with h5py.File(path, "r+") as file:
        file["data/demo_3"].attrs["success"] = not file["data/demo_3"].attrs["success"]
    (error,) = validate_dataset(path).errors
    assert "content hash" in error


def test_masks(path):
    with h5py.File(path, "r+") as file:
        replace(file, "mask/valid", np.array(["demo_0", "demo_99"], dtype="S"))
    assert any("demo_99" in e for e in validate_dataset(path).errors)
    with h5py.File(path, "r+") as file:
        replace(file, "mask/valid", file["mask/train"][:2])
    assert any(
        "mask/train and mask/valid have 2 episodes in common" in e
        for e in validate_dataset(path).errors
    )


def test_a_contract_that_does_not_fit(path):
    with h5py.File(path, "r+") as file:
        args = json.loads(file["data"].attrs["env_args"])
        args["contract"]["obs_shapes"] |= {"position": [4], "image": [8, 8, 3]}
        file["data"].attrs["env_args"] = json.dumps(args)
    errors = "\n".join(validate_dataset(path).errors)
    assert "'image' of the contract is missing" in errors
    assert "obs/position is" in errors


def test_warnings(path):
    with h5py.File(path, "r+") as file:
        data = file["data"]
        for demo in data.values():
            demo["actions"][:, 3] = 1.0
        del data["demo_11"]
        file.copy("data/demo_2", data, "demo_11")
        del data.attrs["env_args"]
        del file["mask"]
    warnings = "\n".join(validate_dataset(path).warnings)
    assert "actions: dimension 3 never changes" in warnings
    assert "an episode is a copy of demo_2 (demo_11)" in warnings
    assert "env_args names no environment contract" in warnings
    assert "there is no split into train and valid" in warnings


def test_hash_follows_content_alone(path, tmp_path):
    """Another order of episodes, other names, chunks and compression: the same hash."""
    other = tmp_path / "other.h5"
    rename = {f"demo_{i}": f"demo_{(i * 5) % 12 + 3}" for i in range(12)}
    with h5py.File(path) as source, h5py.File(other, "w") as target:
        target.create_group("data").attrs.update(source["data"].attrs)
        for old, new in rename.items():
            demo = target["data"].create_group(new)
            demo.attrs.update(source["data"][old].attrs)
            for name in ("obs/target", "obs/position", "actions", "rewards", "dones", "states"):
                value = source[f"data/{old}/{name}"][()]
                demo.create_dataset(name, data=value, compression="lzf")
        for name, members in source["mask"].items():
            renamed = [rename[m.decode()] for m in members]
            target[f"mask/{name}"] = np.array(renamed, dtype="S")
    assert content_hash(other) == content_hash(path)
    assert validate_dataset(other).ok
    with h5py.File(other, "r+") as file:
        file["data/demo_3/rewards"][0] += 1
    assert content_hash(other) != content_hash(path)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(MissingFileError):
        validate_dataset(tmp_path / "nothing.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(UserError, match="cannot be read"):
        validate_dataset(tmp_path / "text.h5")


def test_an_index_that_lies_is_found(path):
    assert validate_dataset(path).ok
    with open_dataset(path) as data:
        table = data.index
    with h5py.File(path) as file:
        place = file[index.NAME].id.get_offset()
    column = table.columns["actions"]
    column.offsets[:2] = column.offsets[1::-1]
    column.sizes[:2] = column.sizes[1::-1]
    seal(path, table, place)
    assert any(
        "the index of the file is not true" in error for error in validate_dataset(path).errors
    )
