"""A run's folder, its folder of checkpoints and its name mean a checkpoint wherever one is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simscaleai.errors import MissingFileError, UserError
from simscaleai.storage.checkpoint import load_checkpoint, save_checkpoint
from simscaleai.storage.find_checkpoint import checkpoint_sha256, find_checkpoint


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """runs/a with checkpoints, seen from the working folder; each is a second younger than the one before."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/a")
    (folder / "checkpoints").mkdir(parents=True)
    for age, name in enumerate(("step_2.pt", "best.pt", "final.pt", "step_9.pt")):
        path = save_checkpoint(folder / "checkpoints" / name, {"name": name})
        os.utime(path, (age, age))
    return folder


def test_a_run_means_the_newer_one_of_its_ends(run: Path) -> None:
    places = [run, run / "checkpoints", run.absolute(), "a", Path("a"), f"{run}/"]
    for place in places:
        assert find_checkpoint(place).name == "final.pt"
        assert load_checkpoint(place)["name"] == "final.pt"
        assert find_checkpoint(place, resume=True).name == "step_9.pt"
    os.utime(run / "checkpoints" / "best.pt", (5, 5))
    assert find_checkpoint("a").name == "best.pt"
    os.utime(run / "checkpoints" / "final.pt", (5, 5))
    assert find_checkpoint("a").name == "final.pt"


def test_a_folder_of_ones_own_does_not_hide_a_run_of_its_name(run: Path) -> None:
    Path("a").mkdir()
    Path("a", "task.py").touch()
    assert find_checkpoint("a") == Path("runs/a/checkpoints/final.pt")
    save_checkpoint(Path("a/last.pt"), {})
    assert find_checkpoint("a") == Path("a/last.pt")


def test_a_run_that_was_stopped_means_its_last_step(run: Path) -> None:
    for name in ("final.pt", "best.pt"):
        (run / "checkpoints" / name).unlink()
    assert find_checkpoint("a").name == "step_9.pt"


def test_folders_without_names_of_runs(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "ppo" / "last.pt", {})
    assert find_checkpoint(tmp_path / "ppo") == tmp_path / "ppo" / "last.pt"
    (tmp_path / "ppo" / "step_1").mkdir()
    (tmp_path / "ppo" / "step_1" / "index.json").touch()
    assert find_checkpoint(tmp_path / "ppo" / "step_1").name == "step_1"  # is one itself


def test_folders_that_hold_none(run: Path) -> None:
    Path("empty").mkdir()
    with pytest.raises(MissingFileError, match=r"'empty' holds no checkpoint \(no final.pt"):
        find_checkpoint("empty")
    for place, name in (("runs/b", "best.pt"), ("sweep/0/x", "final.pt")):
        save_checkpoint(Path(place, name), {})
    for place, runs in (("runs", "runs/a, runs/b"), ("sweep", "sweep/0/x")):
        with pytest.raises(MissingFileError, match=f"no checkpoint, but runs that do: {runs};"):
            find_checkpoint(place)
    for name in ("c", "../a", "x/final.pt"):
        with pytest.raises(MissingFileError, match="no run of this name"):
            find_checkpoint(name)


def test_a_policy_in_a_folder_is_no_run_to_resume(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert find_checkpoint(tmp_path) == tmp_path
    with pytest.raises(UserError, match="holds a policy to act with and nothing of its training"):
        load_checkpoint(tmp_path)


def test_what_identifies_a_checkpoint(run: Path) -> None:
    path = run / "checkpoints" / "final.pt"
    before = checkpoint_sha256(path)
    save_checkpoint(path, {"name": "another"})
    assert checkpoint_sha256(path) != before
    folder = run / "checkpoints"
    assert checkpoint_sha256(folder) == checkpoint_sha256(folder) != before
