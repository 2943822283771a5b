"""Folders that somebody damaged, or thought about."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simscaleai.errors import MissingFileError, UserError
from simscaleai.storage.episode_writer import EpisodeWriter
from simscaleai.storage.episodes import open_dataset
from simscaleai.storage.lerobot import layout
from simscaleai.storage.lerobot.lerobot_folder import LeRobotFolder
from simscaleai.storage.lerobot.lerobot_reader import LeRobotReader
from simscaleai.storage.lerobot.lerobot_writer import LeRobotWriter

DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"


@pytest.fixture
def folder(tmp_path: Path, contract, make_episode) -> Path:
    """Two episodes of five steps, as LeRobot has them."""
    with EpisodeWriter(tmp_path / "data.h5", contract) as writer:
        writer.add_all((i, make_episode(i)) for i in range(2))
    with open_dataset(tmp_path / "data.h5") as data:
        LeRobotWriter(data, tmp_path / "lerobot").write()
    return tmp_path / "lerobot"


def read(folder: Path) -> list:
    return list(LeRobotReader(LeRobotFolder(folder)).episodes())


def info(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / layout.INFO
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def table(path: Path, name: str, values: object) -> None:
    """Replace a column."""
    found = pq.read_table(path)
    at = found.schema.get_field_index(name)
    pq.write_table(found.set_column(at, name, pa.array(values)), path)


def test_episodes_come_back(folder: Path, make_episode) -> None:
    for i, episode in enumerate(read(folder)):
        original = make_episode(i)
        for key, values in original.arrays().items():
            found = episode.arrays()[key]
            assert found.dtype == values.dtype and np.array_equal(found, values), key
        assert episode.attributes() == original.attributes()


def test_without_our_table_the_folder_is_anyones(folder: Path, make_episode) -> None:
    (folder / layout.OWN).unlink()
    source = LeRobotFolder(folder)
    reader = LeRobotReader(source)
    assert source.own is None and reader.contract is None and source.fps == 20
    first, _ = reader.episodes()
    assert set(first.obs) == {"state", "image"}
    assert np.array_equal(first.obs["state"], make_episode(0).obs["ee_pos"])
    assert first.unknown == ("seed", "success") and first.states is None
    assert "success" not in first.attributes() and first.language == "reach target 0"


def test_our_table_of_other_episodes_is_left_out(folder: Path) -> None:
    own = pq.read_table(folder / layout.OWN)
    pq.write_table(own.slice(1), folder / layout.OWN)
    assert LeRobotFolder(folder).own is None


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.parquet"
    os.rename(folder / DATA, outside)
    (folder / DATA).symlink_to(outside)
    with pytest.raises(UserError, match="link out of the dataset"):
        read(folder)


def test_a_snapshot_of_the_hub_links_to_its_blobs(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "datasets--x" / "snapshots" / "abc"
    blobs = tmp_path / "datasets--x" / "blobs"
    snapshot.parent.mkdir(parents=True)
    blobs.mkdir()
    os.rename(folder, snapshot)
    os.rename(snapshot / DATA, blobs / "1")
    (snapshot / DATA).symlink_to(blobs / "1")
    assert len(read(snapshot)) == 2


def test_a_pipe_is_refused(folder: Path) -> None:
    (folder / DATA).unlink()
    os.mkfifo(folder / DATA)
    with pytest.raises(UserError, match="named pipe"):
        read(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda v: v.update(codebase_version="v2.1"), "version 3 is read; convert it"),
        (lambda v: v.update(data_path="../{chunk_index}"), "other names than LeRobot's own"),
        (lambda v: v.update(fps=0), "fps is 0"),
        (lambda v: v.update(fps="x"), "fps is 'x'"),
        (lambda v: v["features"].pop("action"), "no feature `action`"),
        (lambda v: v["features"].update({"../x": v["features"]["action"]}), "has the name"),
        (lambda v: v["features"]["action"].update(shape=[2**40]), "the shape"),
        (lambda v: v["features"]["action"].update(shape=[3]), "frames are not"),
        (lambda v: v["features"]["action"].update(dtype="float64"), "info.json says float64"),
        (lambda v: v.pop("features"), "cannot be read"),
    ],
)
def test_a_false_info_is_one_sentence(folder: Path, change: Callable, sentence: str) -> None:
    info(folder, change)
    with pytest.raises(UserError, match=sentence):
        read(folder)


@pytest.mark.parametrize(
    ("file", "column", "values", "sentence"),
    [
        (EPISODES, "length", [5, 6], "1 of its frames are missing"),
        (EPISODES, "length", [4, 5], "is not what meta/episodes says"),
        (EPISODES, "length", [5, 2**40], "frames"),
        (EPISODES, "length", [5, 2**30], "GiB of memory"),
        (EPISODES, "episode_index", [0, 2], "not 0, 1, 2"),
        (EPISODES, "data/file_index", [0, 7], "lacks data/chunk-000/file-007.parquet"),
        (EPISODES, "data/chunk_index", [0, -1], "cannot be"),
        (DATA, "frame_index", [0] * 10, "frame_index is not"),
        (DATA, "action", ["x"] * 10, "cannot be read"),
    ],
)
def test_a_false_column_is_one_sentence(
    folder: Path, file: str, column: str, values: list, sentence: str
) -> None:
    # our own table would be left out, as its lengths differ
    table(folder / file, column, values)
    with pytest.raises(UserError, match=sentence):
        read(folder)


def test_no_folder_and_no_file(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no LeRobot dataset"):
        LeRobotFolder(tmp_path)
    (folder / DATA).unlink()
    with pytest.raises(MissingFileError, match="lacks data/chunk-000"):
        read(folder)


def test_damaged_bytes_are_read_or_refused_in_a_sentence(folder: Path) -> None:
    rng = np.random.default_rng(0)
    refused = 0
    for file in (DATA, EPISODES, layout.OWN, layout.INFO):
        content = (folder / file).read_bytes()
        for _ in range(3):
            damaged = bytearray(content)
            for at in rng.integers(0, len(content), 8):
                damaged[at] = rng.integers(256)
            (folder / file).write_bytes(bytes(damaged))
            try:
                read(folder)
            except UserError:
                refused += 1
        (folder / file).write_bytes(content)
    assert refused > 3
    assert len(read(folder)) == 2
