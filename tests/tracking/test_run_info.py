"""config.yaml and run_info.json."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from simscaleai.tracking import run_info
from simscaleai.tracking.folder import check_no_foreign_files
from simscaleai.tracking.run_info import CONFIG_FILE, INFO_FILE, git_state, write_run_info


def test_each_start_is_listed_and_the_settings_are_the_last(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_run_info(folder, "seed: 1\n", 0, "cpu")
    write_run_info(folder, "seed: 2\n", 50, "cpu", processes=4)
    assert (folder / CONFIG_FILE).read_text() == "seed: 2\n"
    starts = json.loads((folder / INFO_FILE).read_text())
    assert [s["start_step"] for s in starts] == [0, 50]
    assert [s["processes"] for s in starts] == [1, 4]
    assert starts[0]["versions"]["torch"] and starts[0]["command"]
    assert starts[0]["started"].endswith("+00:00")

    write_run_info(folder, "seed: 3\n", 0, "cpu")
    assert len(json.loads((folder / INFO_FILE).read_text())) == 1


def test_a_folder_is_of_a_run_whenever_its_start_is_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = run_info._write, []

    def cut_short(path: Path, text: str) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write(path, text)

    monkeypatch.setattr(run_info, "_write", cut_short)
    with pytest.raises(KeyboardInterrupt):
        run_info.write_run_info(tmp_path, "seed: 1\n", 0, "cpu")
    check_no_foreign_files(tmp_path, ["*.pt"])


def test_a_broken_record_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / INFO_FILE).write_text("{half")
    write_run_info(tmp_path, "", 5, "cpu")
    assert len(json.loads((tmp_path / INFO_FILE).read_text())) == 1


def test_git_revision_and_whether_files_were_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert git_state(tmp_path) is None

    def git(*words: str) -> str:
        about = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *about, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init")
    assert git_state(tmp_path) is None  # nothing committed yet
    (tmp_path / "code.py").write_text("1\n")
    git("add", "code.py")
    git("commit", "-m", "first")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/new.txt").write_text("not known to git\n")
    assert git_state(tmp_path) == {"revision": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "code.py").write_text("2\n")
    monkeypatch.chdir(tmp_path / "runs")
    assert git_state() == {"revision": git("rev-parse", "HEAD"), "dirty": True}
    monkeypatch.setenv("PATH", "")
    assert git_state() is None  # git is not installed
