from __future__ import annotations

from pathlib import Path

from simscaleai.tracking.folder import RECORDS, make_room


def test_records_move_aside_and_other_files_stay(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert make_room(folder, ["*.pt"]) is None
    for k in (1, 2):
        folder.mkdir(exist_ok=True)
        for name in RECORDS:
            (folder / name).mkdir() if name == "tensorboard" else (folder / name).write_text(str(k))
        (folder / "tensorboard/events").write_text(str(k))
        (folder / "a.pt").write_text(str(k))
        (folder / "notes.txt").write_text("mine")
        aside = make_room(folder, ["*.pt", "a*"])
        assert aside == tmp_path / f"run.old-{k}"
        assert {p.name for p in aside.iterdir()} == {*RECORDS, "a.pt"}
        assert (aside / "tensorboard/events").read_text() == str(k)
        assert [p.name for p in folder.iterdir()] == ["notes.txt"]
    assert make_room(folder, ["*.pt"]) is None
