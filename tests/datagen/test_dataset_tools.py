"""Datasets are merged, filtered, split, edited and repaired into new files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from simscaleai.contract import EnvContract
from simscaleai.datagen import (
    content_hash,
    dataset_info,
    edit_dataset,
    filter_dataset,
    generate_dataset,
    merge_datasets,
    repair_dataset,
    split_dataset,
    validate_dataset,
)
from simscaleai.errors import ExistingFileError, UserError
from simscaleai.storage.episode import Episode
from simscaleai.storage.episode_writer import EpisodeWriter
from simscaleai.storage.episodes import open_dataset
from simscaleai.tools.cli import app

CONTRACT = EnvContract(
    "point",
    {},
    {"image": (4, 4, 3), "pos": (3,)},
    {"image": "uint8", "pos": "float32"},
    2,
    0.05,
    instructions={"red": ("go to red",), "blue": ("go to blue",)},
)


def episode(k: int, **about: object) -> Episode:
    """Episode k has k + 3 steps and the seed 100 + k; even ones succeed, and every third is red."""
    rng, steps = np.random.default_rng(k), k + 3
    made = Episode(
        obs={
            "pos": rng.normal(size=(steps, 3)).astype(np.float32),
            "image": rng.integers(0, 256, (steps, 4, 4, 3), dtype=np.uint8),
        },
        actions=rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
        rewards=np.ones(steps, np.float32),
        dones=np.arange(steps) == steps - 1,
        states=np.arange(steps)[:, None] * 0.05,
        seed=100 + k,
        success=k % 2 == 0,
        language="go to red" if k % 3 == 0 else "go to blue",
    )
    return replace(made, **about)  # type: ignore[arg-type]


def write(path: Path, numbers: range, contract: EnvContract = CONTRACT) -> Path:
    with EpisodeWriter(path, contract, valid_fraction=0.2) as writer:
        writer.add_all((i, episode(k)) for i, k in enumerate(numbers))
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write(tmp_path / "data.h5", range(10))


def seeds(path: Path) -> list[int]:
    with open_dataset(path) as data:
        return [e.seed or 0 for e in data.episodes]


def test_everything_filtered_is_the_same_content(dataset: Path, tmp_path: Path) -> None:
    result = filter_dataset(dataset, tmp_path / "out.h5", min_length=0)
    assert result["content_hash"] == content_hash(dataset)
    assert result["total_steps"] == sum(k + 3 for k in range(10))
    assert result["mean_reward"] == result["mean_episode_length"] == 7.5  # a reward of 1 a step
    assert result["success_rate"] == 0.5
    assert validate_dataset(tmp_path / "out.h5").ok


@pytest.mark.parametrize(
    ("conditions", "kept"),
    [
        ({"success": True}, [0, 2, 4, 6, 8]),
        ({"success": False}, [1, 3, 5, 7, 9]),
        ({"min_length": 5, "max_length": 7}, [2, 3, 4]),
        ({"instruction": "*RED"}, [0, 3, 6, 9]),
        ({"seeds": (103, 104)}, [3, 4]),
        ({"success": True, "instruction": "*red*"}, [0, 6]),
        ({"success": True, "invert": True}, [1, 3, 5, 7, 9]),
    ],
)
def test_conditions(dataset: Path, tmp_path: Path, conditions: dict, kept: list[int]) -> None:
    filter_dataset(dataset, tmp_path / "out.h5", **conditions)
    assert seeds(tmp_path / "out.h5") == [100 + k for k in kept]


def test_an_episode_keeps_its_split(dataset: Path, tmp_path: Path) -> None:
    filter_dataset(dataset, tmp_path / "out.h5", success=True)
    with open_dataset(dataset) as before, open_dataset(tmp_path / "out.h5") as after:
        for name in ("train", "valid"):
            expected = [before.episodes[i].seed for i in before.split(name) if i % 2 == 0]
            assert [after.episodes[i].seed for i in after.split(name)] == expected
        assert len(before.split("valid")) == 2


def test_nothing_chosen_writes_nothing(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing is written"):
        filter_dataset(dataset, tmp_path / "out.h5", min_length=99)
    assert not (tmp_path / "out.h5").exists()


def test_inputs_and_outputs_are_safe(dataset: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.h5", range(2))
    with pytest.raises(UserError, match="is the dataset itself"):
        filter_dataset(dataset, dataset, success=True, overwrite=True)
    with pytest.raises(ExistingFileError, match="--overwrite"):
        filter_dataset(dataset, other, success=True)
    assert len(seeds(dataset)) == 10 and len(seeds(other)) == 2
    filter_dataset(dataset, other, success=True, overwrite=True)
    assert len(seeds(other)) == 5


def test_a_merge_of_parts_is_the_whole_with_each_episode_once(
    dataset: Path, tmp_path: Path
) -> None:
    filter_dataset(dataset, tmp_path / "a.h5", max_length=8)  # episodes 0..5
    filter_dataset(dataset, tmp_path / "b.h5", min_length=7)  # 4..9
    result = merge_datasets([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "both.h5")
    assert result["copies"] == 2  # episodes 4 and 5
    assert result["content_hash"] == content_hash(dataset)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"env_name": "line"}, "the environment is 'line', expected 'point'"),
        ({"control_dt": 0.1}, "control_dt is 0.1 s, expected 0.05 s"),
        ({"instructions": {}}, "instructions that labels stand for differ"),
        ({"action_names": ("x", "y")}, ""),  # the other file does not name them: no difference
    ],
)
def test_a_merge_compares_the_environments(
    dataset: Path, tmp_path: Path, change: dict, sentence: str
) -> None:
    other = write(tmp_path / "other.h5", range(10, 12), replace(CONTRACT, **change))
    if not sentence:
        assert merge_datasets([dataset, other], tmp_path / "out.h5")["total_episodes"] == 12
        return
    with pytest.raises(UserError, match=sentence):
        merge_datasets([dataset, other], tmp_path / "out.h5")


def test_a_split_by_instruction_holds_whole_instructions_out(dataset: Path, tmp_path: Path) -> None:
    split_dataset(dataset, tmp_path / "out.h5", by="instruction", valid_fraction=0.5)
    with open_dataset(tmp_path / "out.h5") as data:
        sides = [{data.episodes[i].language for i in data.split(n)} for n in ("train", "valid")]
    assert sorted(map(sorted, sides)) == [["go to blue"], ["go to red"]]
    with pytest.raises(UserError, match="Unknown way to split 'color'"):
        split_dataset(dataset, tmp_path / "x.h5", by="color")


def test_a_split_is_a_function_of_the_seed(dataset: Path, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        split_dataset(dataset, tmp_path / f"{name}.h5", valid_fraction=0.3, seed=seed)
        with open_dataset(tmp_path / f"{name}.h5") as data:
            found.append(data.split("valid"))
            assert len(found[-1]) == 3
    assert found[0] == found[1] != found[2]


def test_instructions_and_observations_are_edited(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5"
    edit_dataset(dataset, out, instructions={"go to red": "touch red"}, drop_obs=["image"])
    with open_dataset(out) as data:
        assert {e.language for e in data.episodes} == {"touch red", "go to blue"}
        assert data.obs_keys == ["pos"] and data.contract is not None
        assert data.contract.instructions["red"] == ("touch red",)
    assert validate_dataset(out).ok
    with pytest.raises(UserError, match="Unknown observation"):
        edit_dataset(dataset, tmp_path / "x.h5", drop_obs=["imag"])
    with pytest.raises(UserError, match="keep at least one"):
        edit_dataset(dataset, tmp_path / "x.h5", drop_obs=["image", "pos"])


def damage(path: Path, change: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def test_a_repair_leaves_out_what_is_damaged(dataset: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.h5"
    shutil.copy(dataset, damaged)

    def change(file: h5py.File) -> None:
        file["data/demo_1/actions"][0] = 0.5  # differs from its checksum
        del file["data/demo_2/obs/pos"]
        del file["data/demo_2"].attrs["checksum"]
        file["data/demo_3/rewards"][0] = np.nan
        del file["data/demo_3"].attrs["checksum"]
        file["data"].attrs["total"] = 7
        del file["mask/valid"]
        file["mask/valid"] = np.array([b"demo_4", b"demo_99"])

    damage(damaged, change)
    assert not validate_dataset(damaged).ok
    result = repair_dataset(damaged, tmp_path / "sound.h5")
    assert result["left_out"] == 3 and set(result["reasons"].values()) == {1}
    assert seeds(tmp_path / "sound.h5") == [100, 104, 105, 106, 107, 108, 109]
    report = validate_dataset(tmp_path / "sound.h5")
    assert report.ok, report.errors


def test_a_sound_dataset_is_repaired_to_itself(dataset: Path, tmp_path: Path) -> None:
    assert repair_dataset(dataset, tmp_path / "out.h5")["content_hash"] == content_hash(dataset)


def test_files_of_other_tools_stay_what_they_are(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        for i in range(3):
            demo = file.create_group(f"data/demo_{i}")
            demo["obs/pos"] = np.full((4, 3), i, np.float64)
            demo["actions"] = np.full((4, 2), 9.0)
    filter_dataset(tmp_path / "foreign.h5", tmp_path / "out.h5", min_length=1)
    with open_dataset(tmp_path / "out.h5") as data:
        assert len(data) == 3 and data.episodes[0].success is None
        assert data.read(2, "obs/pos").dtype == np.float64
        assert "states" not in data.keys(0)
    info = dataset_info(tmp_path / "out.h5")
    assert info["environment"] is None and info["unknown_success"] == 3


def test_what_a_dataset_says_of_itself(dataset: Path) -> None:
    info = dataset_info(dataset)
    assert (info["episodes"], info["shortest"], info["longest"]) == (10, 3, 12)
    assert (info["successful"], info["failed"]) == (5, 5)
    assert info["instructions"] == {"go to blue": 6, "go to red": 4}
    assert info["splits"] == {"train": 8, "valid": 2}
    assert info["environment"] == "point" and info["fps"] == 20
    assert info["arrays"]["obs/image"] == "[4, 4, 3] uint8"
    assert info["content_hash"] == content_hash(dataset)


def test_failed_episodes_by_stage_from_shards(tmp_path: Path) -> None:
    generate_dataset(
        "pick_place", 4, str(tmp_path / "random"), "random", max_steps=6, shard_episodes=2,
        env_kwargs={"dt": 0.01}, show_progress=False,
    )  # fmt: skip
    out = tmp_path / "out.h5"
    result = filter_dataset(tmp_path / "random", out, stage="never_reached")
    assert result["total_episodes"] == 4  # six random steps reach nothing
    with pytest.raises(UserError, match="Unknown stage 'slipped'; known: dropped, misplaced"):
        filter_dataset(tmp_path / "random", tmp_path / "x.h5", stage="slipped")
    assert dataset_info(tmp_path / "random")["episodes"] == 4


def test_the_commands(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: object) -> None:
        app(["data", *map(str, arguments)], standalone_mode=False)

    good, both, new = (tmp_path / f"{name}.h5" for name in ("good", "both", "new"))
    run("info", dataset)
    assert "go to blue: 6" in capsys.readouterr().out.replace("\n", " ")
    run("filter", dataset, "--success", "--seeds", "100:105", "-o", good)
    assert seeds(good) == [100, 102, 104]
    run("merge", good, dataset, "-o", both)
    assert len(seeds(both)) == 10
    run("split", both, "--valid", "0.5", "-o", both.with_name("split.h5"))
    run("edit", both, "--instruction", "go to red=x=y", "-o", new)
    with open_dataset(new) as data:
        assert "x=y" in {e.language for e in data.episodes}
    run("repair", both, "-o", both.with_name("sound.h5"))
    run("filter", dataset, "--seeds", "5", "-o", tmp_path / "x.h5")
    assert "write FIRST:LAST" in capsys.readouterr().err
    assert not (tmp_path / "x.h5").exists()


TOOLS: dict[str, Callable[..., dict]] = {
    "filter": lambda source, out, **how: filter_dataset(source, out, max_length=99, **how),
    "split": lambda source, out, **how: split_dataset(source, out, valid_fraction=0.3, **how),
    "edit": lambda source, out, **how: edit_dataset(source, out, drop_obs=["pos"], **how),
    "repair": lambda source, out, **how: repair_dataset(source, out, **how),
    "merge": lambda source, out, **how: merge_datasets([source, source], out, **how),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_folder_of_shards_has_the_content_of_the_file(
    dataset: Path, tmp_path: Path, tool: str
) -> None:
    one = TOOLS[tool](dataset, tmp_path / "one.h5")
    many = TOOLS[tool](dataset, tmp_path / "many", shard_episodes=4)
    assert many["content_hash"] == one["content_hash"]
    assert many["shards"] == 3  # 4, 4 and 2 of 10 episodes
    report = validate_dataset(tmp_path / "many")
    assert report.ok, report.errors
    with open_dataset(tmp_path / "one.h5") as a, open_dataset(tmp_path / "many") as b:
        assert a.splits() == b.splits()
        assert [e.language for e in a.episodes] == [e.language for e in b.episodes]
        assert dataset_info(tmp_path / "many")["environment"] == "point"
        np.testing.assert_array_equal(a.read(9, "actions"), b.read(9, "actions"))
    # and a folder is read as a file is
    again = filter_dataset(tmp_path / "many", tmp_path / "again.h5", min_length=0)
    assert again["content_hash"] == one["content_hash"]


def test_what_a_folder_of_shards_cannot_hold_is_refused(dataset: Path, tmp_path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(UserError, match=match):
            filter_dataset(dataset, tmp_path / "many", max_length=99, shard_episodes=4)
        assert not (tmp_path / "many").exists()

    with h5py.File(dataset, "r+") as file:
        del file["data/demo_3"].attrs["seed"]
    refused("Episode 3 differs from the first in recording seed.*write one file")
    with h5py.File(dataset, "r+") as file:
        file["data/demo_3"].attrs["seed"] = 103
        names = [name.decode() for name in file["mask/train"][1:]]
        del file["mask/train"]
        file["mask/train"] = np.array(names, "S")
    refused("for both or for neither; split them anew")
    with h5py.File(dataset, "r+") as file:
        file["mask/easy"] = file["mask/valid"][:]
    refused("no masks but train and valid, and these episodes have easy")


def test_a_folder_is_replaced_only_if_it_is_a_dataset(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ExistingFileError, match="other files"):
        repair_dataset(dataset, folder, shard_episodes=4, overwrite=True)
    (folder / "notes.txt").unlink()
    repair_dataset(dataset, folder, shard_episodes=4)
    with pytest.raises(ExistingFileError, match="--overwrite"):
        repair_dataset(dataset, folder, shard_episodes=5)
    with pytest.raises(UserError, match="is the dataset itself"):
        filter_dataset(folder, folder, max_length=99, shard_episodes=5, overwrite=True)
    repair_dataset(dataset, folder, shard_episodes=5, overwrite=True)
    assert sorted(p.name for p in folder.glob("*.h5")) == ["shard-00000.h5", "shard-00001.h5"]


def test_what_no_episode_records_stays_unknown(dataset: Path, tmp_path: Path) -> None:
    with h5py.File(dataset, "r+") as file:
        for demo in file["data"].values():
            del demo.attrs["seed"], demo.attrs["success"]
    filter_dataset(dataset, tmp_path / "many", max_length=99, shard_episodes=4)
    with open_dataset(tmp_path / "many") as data:
        assert all(e.seed is None and e.success is None for e in data.episodes)
    assert dataset_info(tmp_path / "many")["unknown_success"] == 10
    report = validate_dataset(tmp_path / "many")
    assert report.ok and report.unknown_successes == 10
