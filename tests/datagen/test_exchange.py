"""Datasets that go to LeRobot's format and come back; `scripts/check_lerobot.py` asks LeRobot itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from simscaleai.datagen import (
    content_hash,
    export_dataset,
    generate_dataset,
    import_dataset,
    validate_dataset,
)
from simscaleai.errors import ExistingFileError, UserError
from simscaleai.storage.episode import Episode
from simscaleai.storage.episode_writer import EpisodeWriter
from simscaleai.storage.episodes import open_dataset
from simscaleai.tools.cli import app


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of a task with stages, labels, two cameras, depth and segmentation."""
    path = tmp_path_factory.mktemp("exchange") / "data.h5"
    generate_dataset(
        "pick_place_color",
        3,
        str(path),
        "scripted",
        cameras=["wrist_cam", "front_cam"],
        image_size=16,
        depth=True,
        segmentation=True,
        env_kwargs={"dt": 0.01},
        show_progress=False,
    )
    return path


@pytest.fixture(scope="module")
def exported(dataset: Path) -> Path:
    folder = dataset.parent / "lerobot"
    export_dataset(dataset, folder, subtasks=True, show_progress=False)
    return folder


def test_the_round_trip_gives_the_same_content(
    dataset: Path, exported: Path, tmp_path: Path
) -> None:
    """The hash covers every array, attribute, split and the environment."""
    result = import_dataset(exported, tmp_path / "again.h5", show_progress=False)
    assert result["content_hash"] == content_hash(dataset) == content_hash(tmp_path / "again.h5")
    report = validate_dataset(tmp_path / "again.h5")
    assert report.ok and report.warnings == validate_dataset(dataset).warnings
    with open_dataset(dataset) as before, open_dataset(tmp_path / "again.h5") as after:
        assert before.keys(0) == after.keys(0)
        assert before.env_args == after.env_args  # type: ignore[attr-defined]


def test_what_lerobot_reads(dataset: Path, exported: Path) -> None:
    info = json.loads((exported / "meta/info.json").read_text())
    features = info["features"]
    assert info["codebase_version"] == "v3.0"
    assert (info["fps"], info["robot_type"], info["total_episodes"]) == (20, "panda", 3)
    assert features["action"]["names"] == ["Δx", "Δy", "Δz", "gripper"]
    assert features["observation.images.front_cam"]["shape"] == [16, 16, 3]
    assert len(features["observation.state"]["names"]) == features["observation.state"]["shape"][0]
    frames = pq.read_table(exported / "data/chunk-000/file-000.parquet")
    assert pq.ParquetFile(exported / "data/chunk-000/file-000.parquet").num_row_groups == 3
    tasks = pq.read_table(exported / "meta/tasks.parquet").to_pydict()
    with open_dataset(dataset) as data:
        actions = np.concatenate([data.read(i, "actions") for i in range(3)])
        lengths = [e.length for e in data.episodes]
        assert [tasks["task"][k] for k in np.unique(frames["task_index"])] == tasks["task"]
        spoken = [data.episodes[i].language for i in range(3)]
    assert np.array_equal(np.stack(frames["action"].to_numpy()), actions)
    assert info["total_frames"] == len(frames) == sum(lengths)
    first = np.cumsum([0, *lengths[:-1]])
    assert [tasks["task"][frames["task_index"][int(k)].as_py()] for k in first] == spoken
    stats = json.loads((exported / "meta/stats.json").read_text())
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats["action"]["q50"], np.median(actions, axis=0), atol=1e-6)
    assert np.shape(stats["observation.images.front_cam"]["std"]) == (3, 1, 1)


def test_stages_are_subtasks(exported: Path) -> None:
    frames = pq.read_table(exported / "data/chunk-000/file-000.parquet")
    rows = frames["language_persistent"][0].as_py()
    assert [row["style"] for row in rows] == ["subtask"] * len(rows)
    said = [row["content"] for row in rows]
    assert said[0] == "reach the target" and said[1] == "grasp the object and lift it"
    assert rows[0]["timestamp"] == 0 < rows[1]["timestamp"]
    assert frames["language_events"][0].as_py() == []


def test_video_keeps_everything_but_the_pixels(dataset: Path, tmp_path: Path) -> None:
    export_dataset(dataset, tmp_path / "lerobot", video=True, show_progress=False)
    import_dataset(tmp_path / "lerobot", tmp_path / "again.h5", show_progress=False)
    with open_dataset(dataset) as before, open_dataset(tmp_path / "again.h5") as after:
        for i in range(len(before)):
            for key in before.keys(i):
                old, new = before.read(i, key), after.read(i, key)
                if "image" in key:
                    assert np.abs(old.astype(float) - new).mean() < 10, key
                else:
                    assert np.array_equal(old, new), key


def test_a_file_of_another_tool(tmp_path: Path) -> None:
    """States of float64, no environment, no rewards; it needs a frame rate."""
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        for i in range(2):
            demo = file.create_group(f"data/demo_{i}")
            demo["obs/eef"] = np.random.default_rng(i).normal(size=(4, 3))
            demo["obs/agentview_image"] = np.full((4, 6, 8, 3), i, np.uint8)
            demo["actions"] = np.full((4, 2), 2.5)  # outside of [-1, 1]
    with pytest.raises(UserError, match="add --fps"):
        export_dataset(tmp_path / "foreign.h5", tmp_path / "out", show_progress=False)
    assert not (tmp_path / "out").exists()
    export_dataset(tmp_path / "foreign.h5", tmp_path / "out", fps=10, show_progress=False)
    import_dataset(tmp_path / "out", tmp_path / "again.h5", show_progress=False)
    report = validate_dataset(tmp_path / "again.h5")
    assert report.ok, report.errors
    with open_dataset(tmp_path / "again.h5") as data:
        assert data.episodes[1].success is None and data.episodes[1].seed is None
        assert data.contract is None and data.attribute("fps") == 10
        assert np.array_equal(data.read(1, "obs/agentview_image"), np.full((4, 6, 8, 3), 1))
        assert np.array_equal(data.read(0, "actions"), np.full((4, 2), 2.5, np.float32))


def test_nothing_is_overwritten(dataset: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ExistingFileError, match="--overwrite"):
        export_dataset(dataset, exported, show_progress=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(ExistingFileError, match="holds other files"):
        export_dataset(dataset, tmp_path / "mine", overwrite=True, show_progress=False)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"
    with pytest.raises(ExistingFileError, match="--overwrite"):
        import_dataset(exported, dataset, show_progress=False)
    export_dataset(dataset, exported, overwrite=True, subtasks=True, show_progress=False)


def test_what_a_format_cannot_hold_is_said(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Unknown format 'rlds'; known: lerobot"):
        export_dataset(dataset, tmp_path / "x", "rlds")
    with pytest.raises(UserError, match="leave --fps out"):
        export_dataset(dataset, tmp_path / "x", fps=30)
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["data/demo_0/obs/image"] = np.zeros((4, 7, 8, 3), np.uint8)
        file["data/demo_0/actions"] = np.zeros((4, 2), np.float32)
    with pytest.raises(UserError, match="even numbers"):
        export_dataset(tmp_path / "odd.h5", tmp_path / "x", fps=10, video=True)
    with pytest.raises(UserError, match="only datasets of"):
        export_dataset(tmp_path / "odd.h5", tmp_path / "x", fps=10, subtasks=True)
    assert not list(tmp_path.glob("*x*"))


def test_the_commands(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, again = str(tmp_path / "lerobot"), str(tmp_path / "again.h5")
    app(["export", str(dataset), "--output", folder], standalone_mode=False)
    app(["import", folder, "--output", again], standalone_mode=False)
    assert "good" in capsys.readouterr().out
    assert content_hash(again) == content_hash(dataset)


def test_zarr_has_the_layout_of_diffusion_policy(dataset: Path, tmp_path: Path) -> None:
    """A reader that knows `data/` and `meta/episode_ends` alone finds every step of every episode."""
    zarr = pytest.importorskip("zarr")
    output = tmp_path / "data.zarr"
    found = export_dataset(dataset, output, "zarr", show_progress=False)
    group = zarr.open_group(output, mode="r")
    ends = group["meta/episode_ends"][:]
    assert ends.dtype == np.int64 and ends[-1] == found["total_steps"]
    with open_dataset(dataset) as data:
        names = {
            "action": "actions",
            "ee_pos": "obs/ee_pos",
            "wrist_cam_image": "obs/images/wrist_cam",
            "front_cam_depth": "obs/depth/front_cam",
            "reward": "rewards",
        }
        for i, (start, stop) in enumerate(zip([0, *ends], ends, strict=False)):
            for name, key in names.items():
                stored = group[f"data/{name}"]
                assert stored.shape[0] == ends[-1] and stored.dtype == data.dtype(i, key)
                np.testing.assert_array_equal(stored[start:stop], data.read(i, key))
            sentence = group.attrs["instructions"][int(group["meta/instruction"][i])]
            assert sentence == data.episodes[i].language
            assert group["meta/seed"][i] == data.episodes[i].seed
        vectors = [f"obs/{k}" for k in sorted(data.obs_keys) if data.read(0, f"obs/{k}").ndim == 2]
        state = np.concatenate([data.read(0, key) for key in vectors], axis=1)
    np.testing.assert_array_equal(group["data/state"][: ends[0]], state)
    assert group["data/wrist_cam_image"].chunks[0] == 1
    with pytest.raises(ExistingFileError, match="--overwrite"):
        export_dataset(dataset, output, "zarr", show_progress=False)
    export_dataset(dataset, output, "zarr", overwrite=True, show_progress=False)


@pytest.mark.parametrize("names", [("action",), ("arm_q", "arm/q"), (".zarray",)])
def test_zarr_loses_no_array_to_another_name(names: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    values = np.zeros((2, 3), np.float32)
    episode = Episode(dict.fromkeys(names, values), values, values[:, 0], values[:, 0] > 0, None)
    with EpisodeWriter(tmp_path / "a.h5", None) as writer:
        writer.add(0, episode)
    with pytest.raises(UserError, match="give the observation another name"):
        export_dataset(tmp_path / "a.h5", tmp_path / "a.zarr", "zarr", show_progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_zarr_without_the_package_and_with_other_options(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="are of the format lerobot"):
        export_dataset(dataset, tmp_path / "a", "zarr", video=True, show_progress=False)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UserError, match=r"pip install 'simscaleai\[zarr\]'"):
        export_dataset(dataset, tmp_path / "a", "zarr", show_progress=False)
    assert not list(tmp_path.iterdir())
