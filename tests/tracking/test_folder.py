from __future__ import annotations

from pathlib import Path

import pytest

from simscaleai.errors import ExistingFileError, UserError
from simscaleai.storage.checkpoint import save_checkpoint
from simscaleai.tracking.folder import (
    RECORDS,
    archive_run,
    check_no_foreign_files,
    check_path_in_file,
    is_run_name,
)


def test_records_move_aside_and_other_files_stay(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert archive_run(folder, ["*.pt"]) is None
    for k in (1, 2):
        folder.mkdir(exist_ok=True)
        for name in RECORDS:
            (folder / name).mkdir() if name == "tensorboard" else (folder / name).write_text(str(k))
        (folder / "tensorboard/events").write_text(str(k))
        (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
        (folder / "a.pt").write_text(str(k))
        (folder / "notes.txt").write_text("mine")
        aside = archive_run(folder, ["*.pt", "a*"])
        assert aside == tmp_path / f"run.old-{k}"
        assert {p.name for p in aside.iterdir()} == {*RECORDS, "a.pt"}
        assert (aside / "tensorboard/events").read_text() == str(k)
        assert [p.name for p in folder.iterdir()] == ["notes.txt"]
    assert archive_run(folder, ["*.pt"]) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", "mine: true"),
        ("metrics.jsonl", '{"loss": 1}'),
        ("metrics.jsonl", "[1]"),
        ("run_info.json", "[[]]"),
        ("run_info.json", "{}"),
        ("final.pt", "somebody's"),
        ("tensorboard", "a file"),
    ],
)
def test_files_that_no_run_has_written_stay_where_they_are(
    name: str, content: str, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / name).write_text(content)
    with pytest.raises(ExistingFileError, match=f"holds {name}, which no run has written"):
        archive_run(folder, ["final.pt"])
    assert (folder / name).read_text() == content and [folder] == list(tmp_path.iterdir())


def test_a_folder_of_a_run_is_known_by_its_checkpoints_too(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: a")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ExistingFileError):
        check_no_foreign_files(tmp_path, ["checkpoints"])
    save_checkpoint(tmp_path / "checkpoints/final.pt", {"kind": "policy"})
    check_no_foreign_files(tmp_path, ["checkpoints"])


def test_names_of_runs_are_folders_below_runs() -> None:
    assert all(map(is_run_name, ("a", "width/3", "a.b-c d")))
    for wrong in ("", ".", "..", "../a", "a/../b", "/a", "a//b", "a\\b", "a/", "a\x00", "\x1b[2J"):
        assert not is_run_name(wrong), wrong


@pytest.mark.parametrize("value", ["../x", "/tmp/x", "a/../../x", "a\x00", "~/x/../../.."])
def test_paths_in_files_stay_in_their_folder(value: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for inside in (".", "a", "a/b", "a/../b", str(tmp_path / "a")):
        check_path_in_file(inside, "dir", "a.yaml", "--dir", Path.cwd())
    with pytest.raises(UserError, match=r"a\.yaml: dir is .* leads out of .*--dir"):
        check_path_in_file(value, "dir", "a.yaml", "--dir", Path.cwd())
