"""Rendering into shards: the content of one file, whole or absent, resumable, and nothing else touched."""

from __future__ import annotations

import os
import shutil
from functools import partial

import h5py
import numpy as np
import pytest

from simscaleai.datagen import (
    Interrupted,
    content_hash,
    generate_dataset,
    merge_datasets,
    render_dataset,
    shard_file,
    validate_dataset,
)
from simscaleai.datagen.episode_renderer import EpisodeRenderer
from simscaleai.datagen.render_task import kept_rendering
from simscaleai.datagen.shard_task import ShardTask
from simscaleai.datagen.sharded_output import make_shards
from simscaleai.errors import ExistingFileError, UserError
from simscaleai.executors import InProcess, Processes
from simscaleai.storage.disk import CannotWriteError
from simscaleai.storage.episodes import open_dataset
from simscaleai.storage.manifest import Manifest, read_manifest, write_manifest
from tests.executors.items import die_before

pytest.importorskip("warp", reason="the ray tracer is not installed")

SHARDS = [f"shard-0000{j}.h5" for j in range(3)]
FEW = {"max_steps": 3, "seed": 4, "valid_fraction": 0.3, "randomize": "default"}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The folder of a dataset of 7 episodes, of the same in shards, and of its rendering as one file."""
    folder = tmp_path_factory.mktemp("rendered")
    for name, shards in (("demos.h5", None), ("demos", 4)):
        generate_dataset("reach", 7, folder / name, "scripted", shard_episodes=shards, **FEW)
    render_dataset(folder / "demos.h5", folder / "one.h5", ["front_cam"], 8)
    render_dataset(folder / "demos.h5", folder / "many", ["front_cam"], 8, shard_episodes=3)
    return folder


@pytest.fixture
def source(places):
    return places / "demos.h5"


@pytest.fixture
def output(tmp_path):
    return tmp_path / "data" / "images"


@pytest.fixture
def made(places, output):
    """What `render(source, output)` leaves; returns its content hash."""
    shutil.copytree(places / "many", output)
    return content_hash(places / "one.h5")


def render(source, output, **changes):
    return render_dataset(
        source, output, ["front_cam"], **{"image_size": 8, "shard_episodes": 3} | changes
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def drawn(monkeypatch):
    """The episodes that are drawn, in order."""
    episode, seen = EpisodeRenderer.episode, []

    def noted(renderer, data, i):
        seen.append(i)
        return episode(renderer, data, i)

    monkeypatch.setattr(EpisodeRenderer, "episode", noted)
    return seen


@pytest.mark.parametrize("division", ["demos.h5", "demos"])
def test_shards_hold_what_one_file_holds(places, output, tmp_path, division):
    one = render(places / division, tmp_path / "one.h5", shard_episodes=None)
    made = render(places / division, output)
    assert names(output) == ["manifest.parquet", *SHARDS]
    assert made.keys() == one.keys() | {"shards"}
    assert made["shards"] == 3
    differing = {"seconds", "file_size_mb", "output_path", "frames_per_second"}
    for key in one.keys() - differing:
        assert made[key] == one[key], key
    assert made["content_hash"] == content_hash(output) == content_hash(places / "one.h5")
    with open_dataset(output) as data, open_dataset(tmp_path / "one.h5") as file:
        assert data.splits() == file.splits()
        for i in (0, 6):
            assert data.checksum(i) == file.checksum(i)
            for name in ("policy", "mujoco_version", "model_sha256", "randomization"):
                assert data.episode_attribute(i, name) == file.episode_attribute(i, name), name
    assert validate_dataset(output).errors == []


@pytest.mark.usefixtures("made")
def test_the_manifest_says_what_the_source_says_of_its_episodes(output, source):
    found = read_manifest(output).about["statistics"]
    with open_dataset(source) as data:
        for key in (
            "attempts",
            "attempt_success_rate",
            "diverged",
            "success_rate",
            "valid_episodes",
        ):
            assert f'"{key}": {found[key]}' in data.attribute("statistics"), key
    assert found["shards"] == 3


def test_ctrl_c_keeps_finished_shards(source, places, output, drawn, monkeypatch):
    noted = EpisodeRenderer.episode

    def stopping(renderer, data, i):
        if i == 4:
            raise KeyboardInterrupt
        return noted(renderer, data, i)

    monkeypatch.setattr(EpisodeRenderer, "episode", stopping)
    with pytest.raises(Interrupted, match=r"1 of 3 shards are kept in .*--resume"):
        render(source, output)
    assert names(output) == ["manifest.parquet", SHARDS[0]]
    with open_dataset(output) as data:  # what is there can be used
        assert len(data) == 3
    assert "2 shards are missing" in validate_dataset(output).errors[0]
    monkeypatch.setattr(EpisodeRenderer, "episode", noted)
    drawn.clear()
    again = render(source, output, resume=True)
    assert drawn == [3, 4, 5, 6]
    assert (again["resumed_episodes"], again["frames"]) == (3, 4 * 3)
    assert again["content_hash"] == content_hash(output) == content_hash(places / "one.h5")
    done = render(source, output, resume=True)
    assert drawn == [3, 4, 5, 6] and done["frames"] == 0


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_shards_are_drawn_again(source, output, made, drawn, damage, capfd):
    path = output / SHARDS[1]
    if damage == "gone":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size // 2)
    again = render(source, output, resume=True)
    assert drawn == [3, 4, 5]
    assert again["content_hash"] == made == content_hash(output)
    assert again["resumed_episodes"] == 4
    assert (SHARDS[1] in capfd.readouterr().err) == (damage != "gone")


@pytest.mark.usefixtures("made")
def test_what_is_there_is_not_touched(source, places, output, tmp_path):
    before = (output / SHARDS[0]).stat().st_mtime_ns
    with pytest.raises(ExistingFileError, match=r"holds a dataset; .*--resume"):
        render(source, output)
    with pytest.raises(UserError, match=r"image: \[8, 8, 3\] instead of \[9, 9, 3\]"):
        render(source, output, image_size=9, resume=True)
    with pytest.raises(UserError, match="shard_episodes: 3 instead of 4"):
        render(source, output, shard_episodes=4, resume=True)
    with pytest.raises(UserError, match="is the dataset itself"):
        render(output, output, overwrite=True)
    with pytest.raises(UserError, match=r"is a folder; .*--shard-episodes"):
        render(source, output, shard_episodes=None)
    with pytest.raises(UserError, match="is a file, and --shard-episodes writes a folder"):
        render(source, places / "one.h5")
    with pytest.raises(UserError, match="shard_episodes is 0"):
        render(source, output, shard_episodes=0, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for flags in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(UserError, match=r"holds other things \(thesis\.txt\)"):
            render(source, tmp_path / "mine", **flags)
    assert (output / SHARDS[0]).stat().st_mtime_ns == before
    assert render(source, output, shard_episodes=4, overwrite=True)["shards"] == 2
    assert names(output) == ["manifest.parquet", *SHARDS[:2]]


@pytest.mark.parametrize("number", [0, 2])
def test_a_full_disk_says_what_is_kept(source, output, monkeypatch, number):
    row = shard_file.shard_row

    def fail(path, *args):
        if path.name == SHARDS[number]:
            raise CannotWriteError("Cannot write the shard: the disk is full.")
        return row(path, *args)

    monkeypatch.setattr(shard_file, "shard_row", fail)
    kept = "2 of 3 shards are kept in" if number else "No shard was finished yet"
    with pytest.raises(CannotWriteError, match=kept):
        render(source, output)
    monkeypatch.undo()
    assert render(source, output, resume=True)["shards"] == 3


def test_two_runs_into_one_folder(source, output, monkeypatch):
    make = ShardTask.__call__

    def meanwhile(task, number):
        if number == 1:
            with pytest.raises(UserError, match="Another process is rendering"):
                make_shards(task, InProcess(), resume=True, overwrite=False, show=False)
        return make(task, number)

    monkeypatch.setattr(ShardTask, "__call__", meanwhile)
    render(source, output)


def test_a_dataset_that_changes_meanwhile_is_not_mixed(source, output, tmp_path, monkeypatch):
    """A worker that starts late must not draw other episodes than the first one did."""
    changing = shutil.copy(source, tmp_path / "demos.h5")
    make = ShardTask.__call__

    def late(task, number):
        if number == 1:
            generate_dataset("reach", 7, changing, "random", max_steps=3, overwrite=True)
            kept_rendering.close()
        return make(task, number)

    monkeypatch.setattr(ShardTask, "__call__", late)
    with pytest.raises(UserError, match="was changed while it was rendered"):
        render(changing, output)


def test_what_a_folder_of_shards_cannot_hold_is_refused(places, source, output, tmp_path):
    other = shutil.copy(source, tmp_path / "demos.h5")
    with h5py.File(other, "r+") as file:
        file["mask/easy"] = file["mask/valid"][:]
    with pytest.raises(
        UserError, match=r"no masks but train and valid.* have easy.*write one file"
    ):
        render(other, output)
    with h5py.File(other, "r+") as file:
        del file["mask/easy"]
        file["data/demo_5/obs/more"] = np.zeros((3, 1))
    with pytest.raises(UserError, match="Episode 5 has other arrays than the first"):
        render(other, output)
    unfinished = shutil.copytree(places / "demos", tmp_path / "demos")
    found = read_manifest(unfinished, digests=True)
    write_manifest(unfinished, Manifest(found.rows[:1], found.about))
    with pytest.raises(UserError, match="is not complete; run the command that writes it"):
        render(unfinished, output)
    assert not output.exists()


def test_a_split_that_is_not_stored_is_kept(source, output, tmp_path):
    bare = shutil.copy(source, tmp_path / "demos.h5")
    with h5py.File(bare, "r+") as file:
        del file["mask"]
    whole = render(bare, tmp_path / "one.h5", shard_episodes=None)
    assert render(bare, output)["content_hash"] == whole["content_hash"]
    with open_dataset(bare) as old, open_dataset(output) as new:
        assert old.split("valid") == new.split("valid")


@pytest.mark.slow
def test_a_killed_worker_costs_the_shard_that_it_was_at(source, places, output, tmp_path):
    class Dying(Processes):
        def run(self, task, items):
            return super().run(partial(die_before, tmp_path, task), items)

    made = render(source, output, executor=Dying(2), workers=2)
    assert (tmp_path / "1").exists()
    assert made["content_hash"] == content_hash(places / "one.h5")


@pytest.mark.slow
def test_a_merged_dataset(places, output, tmp_path):
    """Its recipe names several sources, and its statistics have no attempts."""
    merged = tmp_path / "merged.h5"
    generate_dataset("reach", 2, tmp_path / "more.h5", "scripted", **{**FEW, "seed": 9})
    merge_datasets([places / "demos.h5", tmp_path / "more.h5"], merged)
    whole = render(merged, tmp_path / "one.h5", shard_episodes=None)
    assert render(merged, output, workers=2)["content_hash"] == whole["content_hash"]
