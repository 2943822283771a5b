"""Datasets in shards: the same content as one file, whole or absent, resumable, and nothing else touched."""

from __future__ import annotations

import errno
import os
import shutil

import h5py
import numpy as np
import pytest

from simscaleai.datagen import (
    Interrupted,
    content_hash,
    generate_dataset,
    shard_file,
    sharded_output,
    validate_dataset,
)
from simscaleai.datagen.generation_task import GenerationTask
from simscaleai.datagen.progress_bar import ProgressBar
from simscaleai.datagen.shard_file import read_row
from simscaleai.datagen.shard_task import ShardTask
from simscaleai.errors import ExistingFileError, UserError
from simscaleai.storage.disk import CannotWriteError
from simscaleai.storage.episodes import open_dataset
from simscaleai.storage.manifest import Manifest, read_manifest, write_manifest
from simscaleai.storage.vetting import trust

pytestmark = pytest.mark.usefixtures("point_env")
SHARDS = [f"shard-0000{j}.h5" for j in range(4)]


@pytest.fixture
def output(tmp_path):
    return tmp_path / "data" / "big"


@pytest.fixture
def made(output, point_shards):
    """What `generate(output)` leaves; returns its content hash."""
    shutil.copytree(point_shards[0], output)
    for path in output.iterdir():
        trust(path)  # as of files that were just generated
    return point_shards[1]


def generate(output, n=40, **changes):
    settings = {"policy_type": "scripted", "shard_episodes": 12, "noise": 0.1}
    return generate_dataset("point", n, output, **settings | changes)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_shards_hold_what_one_file_holds(output, tmp_path):
    whole = generate(tmp_path / "one.h5", shard_episodes=None)
    made = generate(output, num_envs=5)
    assert names(output) == ["manifest.parquet", *SHARDS]
    assert made["shards"] == 4
    assert made["content_hash"] == whole["content_hash"] == content_hash(output)
    for key in whole.keys() - {"seconds", "file_size_mb", "output_path", "mean_reward"}:
        assert made[key] == whole[key], key
    assert made["mean_reward"] == pytest.approx(whole["mean_reward"], rel=1e-12)
    with open_dataset(output) as data, open_dataset(tmp_path / "one.h5") as one:
        assert data.splits() == one.splits()
        assert [data.checksum(i) for i in (0, 13, 39)] == [one.checksum(i) for i in (0, 13, 39)]
        assert [e.length for e in data.episodes] == [e.length for e in one.episodes]
    assert validate_dataset(output).errors == []
    # each shard is a dataset that stands for itself
    assert validate_dataset(output / SHARDS[3]).errors == []
    with h5py.File(output / SHARDS[3]) as file:
        assert sorted(file["data"]) == ["demo_0", "demo_1", "demo_2", "demo_3"]


@pytest.mark.usefixtures("made")
def test_the_row_of_a_shard_can_be_read_from_it(output):
    for row in read_manifest(output, digests=True).rows:
        found = read_row(output / row.shard)
        assert vars(found).keys() == vars(row).keys()
        for name, value in vars(row).items():
            if name not in ("statistics", "arrays"):
                np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)
        assert found.statistics["train"]["actions"].to_dict() == (
            row.statistics["train"]["actions"].to_dict()
        )


@pytest.mark.parametrize("num_envs", [1, 4, 64])
def test_every_episode_is_tried_on_its_own(output, tmp_path, num_envs):
    """Which attempt is kept depends on the episode alone: not on the shard, nor on others in it."""
    settings = {"max_steps": 7, "only_success": True, "n": 24, "num_envs": num_envs}
    made = generate(output, **settings)
    other = generate(tmp_path / "other", shard_episodes=5, **settings)
    assert made["content_hash"] == other["content_hash"]
    assert made["success_rate"] == 1
    assert made["attempts"] == other["attempts"] > 24
    assert made["attempt_success_rate"] == 24 / made["attempts"]


def test_unstable_episodes_are_replaced(output, unstable):
    unstable(0.3)
    made = generate(output)
    assert made["diverged"] == made["attempts"] - 40 > 0
    unstable(0.9)
    with pytest.raises(UserError, match="became unstable in"):
        generate(output.with_name("other"))
    assert not output.with_name("other").exists()


@pytest.mark.usefixtures("made")
def test_what_is_there_is_not_touched(output, tmp_path):
    before = (output / SHARDS[0]).stat().st_mtime_ns
    with pytest.raises(ExistingFileError, match=r"holds a dataset; .*--resume"):
        generate(output)
    with pytest.raises(UserError, match=r"other settings \(n_episodes: 40 instead of 50\)"):
        generate(output, 50, resume=True)
    with pytest.raises(UserError, match=r"shard_episodes: 12 instead of 13"):
        generate(output, shard_episodes=13, resume=True)
    assert (output / SHARDS[0]).stat().st_mtime_ns == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for flags in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(UserError, match=r"holds other things \(thesis\.txt\)"):
            generate(tmp_path / "mine", **flags)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file, and --shard-episodes writes a folder"):
        generate(tmp_path / "file")
    assert generate(output, 20, overwrite=True)["total_episodes"] == 20
    assert names(output) == ["manifest.parquet", *SHARDS[:2]]


def test_a_path_that_is_meant_as_a_folder(tmp_path):
    for path in (f"{tmp_path}/new/", tmp_path):
        with pytest.raises(UserError, match=r"is a folder; name a file such as .*--shard-episodes"):
            generate(path, shard_episodes=None)
    with pytest.raises(UserError, match="An executor makes shards"):
        generate(tmp_path / "a.h5", shard_episodes=None, executor="processes")
    assert names(tmp_path) == []


class Stop(Exception):
    pass


@pytest.fixture
def dying(monkeypatch):
    """A function that lets the run end with an error when shard `number` has been simulated."""

    def arm(number, error):
        row = shard_file.shard_row

        def fail(path, *args):
            if path.name == SHARDS[number]:
                raise error
            return row(path, *args)

        monkeypatch.setattr(shard_file, "shard_row", fail)
        return lambda: monkeypatch.setattr(shard_file, "shard_row", row)

    return arm


def test_ctrl_c_keeps_finished_shards(output, dying):
    mend = dying(2, KeyboardInterrupt())
    with pytest.raises(Interrupted, match=r"2 of 4 shards are kept in .*--resume"):
        generate(output)
    mend()
    with open_dataset(output) as data:  # what is there can be used
        assert len(data) == 24
    assert "2 shards are missing" in validate_dataset(output).errors[0]
    times = [(output / name).stat().st_mtime_ns for name in SHARDS[:3]]
    made = generate(output, resume=True)
    # the third was complete when the run was stopped, and is found although no manifest lists it
    assert [(output / name).stat().st_mtime_ns for name in SHARDS[:3]] == times
    assert made["resumed_episodes"] == 36
    assert made["content_hash"] == content_hash(output)


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "orphan"])
def test_damaged_shards_are_made_again(output, made, damage, capfd):
    path = output / SHARDS[1]
    if damage == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "gone":
        path.unlink()
    else:  # cut, and the manifest was not written since
        mend = read_manifest(output, digests=True)
        rows = [row for row in mend.rows if row.shard != path.name]
        write_manifest(output, Manifest(rows, mend.about))
        os.truncate(path, path.stat().st_size // 2)
    again = generate(output, resume=True)
    assert again["content_hash"] == made == content_hash(output)
    assert again["resumed_episodes"] == 28
    assert (SHARDS[1] in capfd.readouterr().err) == (damage != "gone")


@pytest.mark.parametrize("number", [0, 2])
def test_a_full_disk_says_what_is_kept(output, dying, number):
    full = OSError(errno.ENOSPC, "No space left on device")
    mend = dying(number, CannotWriteError("Cannot write the shard: the disk is full."))
    with pytest.raises(CannotWriteError) as caught:
        generate(output)
    mend()
    kept = "2 of 4 shards are kept in" if number else "No shard was finished yet"
    assert kept in str(caught.value)
    assert generate(output, resume=True)["shards"] == 4
    assert full.errno == errno.ENOSPC


def test_the_bar_of_a_resumed_run_counts_each_episode_once(output, made, monkeypatch):
    (output / SHARDS[1]).unlink()
    drawn = []

    class Bar(ProgressBar):
        def __exit__(self, *exc):
            [task] = self._bar.tasks
            drawn.append((task.completed, task.fields["success"]))
            super().__exit__(*exc)

    monkeypatch.setattr(sharded_output, "ProgressBar", Bar)
    generate(output, resume=True)
    assert drawn == [(40, "100.0%")]


def test_a_folder_that_cannot_be_written(output, monkeypatch):
    mkdir = os.mkdir

    def read_only(path, *args, **kwargs):
        if "big" in str(path):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return mkdir(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", read_only)
    with pytest.raises(CannotWriteError, match="file system is read-only"):
        generate(output)


def test_a_folder_that_vanishes(output, monkeypatch):
    make = GenerationTask.episodes

    def vanishing(task, number, counts):
        yield from make(task, number, counts)
        if number == 1:
            shutil.rmtree(task.folder)

    monkeypatch.setattr(GenerationTask, "episodes", vanishing)
    with pytest.raises((UserError, OSError)) as caught:
        generate(output)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(GenerationTask, "episodes", make)
    assert generate(output, resume=True, overwrite=True)["shards"] == 4


def test_two_runs_into_one_folder(output, monkeypatch):
    make = ShardTask.__call__

    def meanwhile(task, number):
        with pytest.raises(UserError, match="Another process is generating"):
            generate(output, resume=True)
        return make(task, number)

    monkeypatch.setattr(ShardTask, "__call__", meanwhile)
    generate(output)


def test_validation_finds_a_manifest_that_is_not_true(output):
    generate(output, 14)
    found = read_manifest(output, digests=True)
    row = found.rows[1]
    for change in (
        {"seeds": row.seeds + np.uint64(1)},
        {"valid": ~row.valid},
        {"sha256": "0" * 64},
    ):
        altered = type(row)(**{**vars(row), **change})
        rows = [found.rows[0], altered, *found.rows[2:]]
        write_manifest(output, Manifest(rows, found.about))
        report = validate_dataset(output)
        assert not report.ok, change


@pytest.mark.usefixtures("made")
def test_validation_of_every_shard(output):
    with h5py.File(output / SHARDS[2], "r+") as file:
        file["data/demo_1/rewards"][0] += 1
    errors = " ".join(validate_dataset(output).errors)
    assert "the content differs from the checksum" in errors and "demo_25" in errors
