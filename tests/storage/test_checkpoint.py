from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch

from simscaleai.errors import MissingFileError, UserError
from simscaleai.storage.checkpoint import load_checkpoint, point_at, save_checkpoint
from simscaleai.storage.episodes import open_dataset

PAYLOAD: dict[str, Any] = {
    "step": 7,
    "name": "bc",
    "nothing": None,
    "flags": [True, 1.5, (1, 2)],
    "weights": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2], dtype=torch.uint8)},
    "state": {0: torch.ones(2)},
}


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.target), "w"))


def test_round_trip(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "new" / "a.pt", PAYLOAD)
    loaded = load_checkpoint(path)
    assert loaded["format_version"] == 1
    assert {k: loaded[k] for k in ("step", "name", "nothing", "flags")} == {
        k: PAYLOAD[k] for k in ("step", "name", "nothing", "flags")
    }
    for key, value in PAYLOAD["weights"].items():
        assert torch.equal(loaded["weights"][key], value)
        assert loaded["weights"][key].dtype == value.dtype
    assert torch.equal(loaded["state"][0], torch.ones(2))


@pytest.mark.parametrize(
    "stray", [object(), {1, 2}, {"deep": [lambda: 0]}, Path("x"), torch.nn.Parameter(torch.ones(1))]
)
def test_saving_anything_else_is_refused_and_leaves_no_file(tmp_path: Path, stray: Any) -> None:
    with pytest.raises(TypeError, match="plain values"):
        save_checkpoint(tmp_path / "a.pt", {"x": stray})
    assert list(tmp_path.iterdir()) == []


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no checkpoint"):
        load_checkpoint(tmp_path / "absent.pt")


def test_other_files_are_one_clear_error(tmp_path: Path) -> None:
    good = save_checkpoint(tmp_path / "good.pt", PAYLOAD).read_bytes()
    middle = bytearray(good)
    middle[good.index(torch.arange(6.0).numpy().tobytes()) + 5] ^= 0xFF
    cases = {
        "empty": b"",
        "text": b"hello",
        "short": good[: len(good) // 2],
        "flipped": bytes(middle),
        "pickle": pickle.dumps({"format_version": 1}),
    }
    for name, content in cases.items():
        path = tmp_path / f"{name}.pt"
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a readable checkpoint"):
            load_checkpoint(path)
    with pytest.raises(UserError, match="holds no checkpoint"):
        load_checkpoint(tmp_path)


def test_other_versions(tmp_path: Path) -> None:
    torch.save({"format_version": 99}, tmp_path / "new.pt")
    with pytest.raises(UserError, match="format version 99"):
        load_checkpoint(tmp_path / "new.pt")
    torch.save({"weights": torch.ones(2)}, tmp_path / "foreign.pt")
    with pytest.raises(UserError, match="format version none"):
        load_checkpoint(tmp_path / "foreign.pt")
    torch.save(torch.ones(2), tmp_path / "tensor.pt")
    with pytest.raises(UserError, match="format version none"):
        load_checkpoint(tmp_path / "tensor.pt")


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_never_runs(tmp_path: Path, legacy: bool) -> None:
    target = tmp_path / "pwned"
    payload = {"format_version": 1, "optimizer": {"state": [Evil(target)]}}
    path = tmp_path / "evil.pt"
    torch.save(payload, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError):
        load_checkpoint(path)
    assert not target.exists()


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "a.pt", {"x": torch.zeros(100_000)})
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert bomb.stat().st_size < 10_000
    with pytest.raises(UserError, match="compressed"):
        load_checkpoint(bomb)


def test_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.pt"
    torch.save({"format_version": 1, "x": torch.zeros(1).expand(10**12)}, path)
    with pytest.raises(UserError, match="claims more"):
        load_checkpoint(path)


def test_containers_that_hold_themselves_end(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    torch.save({"format_version": 1, "x": loop}, tmp_path / "loop.pt")
    assert "x" in load_checkpoint(tmp_path / "loop.pt")


def test_names_that_no_plain_value_needs_are_refused_before_they_are_called(tmp_path: Path) -> None:
    """`weights_only=True` lets a bytearray of any length be made."""
    path = tmp_path / "large.pt"
    torch.save({"format_version": 1, "x": bytearray(10)}, path)
    with pytest.raises(UserError, match="bytearray"):
        load_checkpoint(path)


def test_a_pointer_leads_to_a_checkpoint_beside_it(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        point_at(tmp_path / "last", save_checkpoint(tmp_path / name, {"name": name}))
        assert load_checkpoint(tmp_path / "last")["name"] == name
    (tmp_path / "text").write_text("a.pt\n")
    assert load_checkpoint(tmp_path / "text")["name"] == "a.pt"
    for text in ("../a.pt", "/etc/passwd", "", "nothing.pt", "a\0b"):
        (tmp_path / "text").write_text(text)
        with pytest.raises(UserError, match="not a readable checkpoint"):
            load_checkpoint(tmp_path / "text")


def test_a_dataset_and_a_checkpoint_are_not_taken_for_each_other(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "a.pt", PAYLOAD)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["data/demo_0/actions"] = [[0.0]]
    with pytest.raises(
        UserError, match=r"is a dataset \(HDF5\) and no checkpoint; give a checkpoint"
    ):
        load_checkpoint(tmp_path / "data.h5")
    with pytest.raises(
        UserError, match=r"a\.pt is an archive, such as a checkpoint, and no dataset"
    ):
        open_dataset(checkpoint)
