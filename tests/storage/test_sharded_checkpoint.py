from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from simscaleai.errors import UserError
from simscaleai.storage.checkpoint import load_checkpoint, save_sharded_checkpoint
from simscaleai.storage.sharded_checkpoint import ShardedCheckpoint, flatten, unflatten

TENSORS: dict[str, Any] = {
    "weights": {
        "a": torch.arange(35.0).reshape(7, 5),
        "half": torch.arange(6, dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
    },
    "optimizer": {"a": {"step": torch.tensor(3.0)}},
}


@pytest.fixture
def folder(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> Path:
    """Written by one process; by more, in tests/training/test_distributed.py."""
    return save_sharded_checkpoint(tmp_path / "step_3", {"step": 3}, TENSORS)


def test_round_trip(folder: Path) -> None:
    payload = load_checkpoint(folder)
    assert payload["step"] == 3
    loaded, written = flatten({k: payload[k] for k in TENSORS}), flatten(TENSORS)
    assert loaded.keys() == written.keys()
    for name, value in written.items():
        assert torch.equal(loaded[name], value) and loaded[name].dtype == value.dtype
    assert sorted(p.name for p in folder.iterdir()) == ["index.json", "part_0.bin", "plain.pt"]
    assert [p.name for p in folder.parent.iterdir()] == ["step_3"]


def test_written_again(folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    save_sharded_checkpoint(folder, {"step": 4}, TENSORS)
    assert load_checkpoint(folder)["step"] == 4
    assert [p.name for p in folder.parent.iterdir()] == ["step_3"]


def test_one_changed_bit_is_noticed(folder: Path) -> None:
    content = bytearray((folder / "part_0.bin").read_bytes())
    content[5] ^= 1
    (folder / "part_0.bin").write_bytes(content)
    with pytest.raises(UserError, match=r"'weights/a' in part_0\.bin are not what was written"):
        ShardedCheckpoint(folder).verify()
    with pytest.raises(UserError, match="use another checkpoint of the run"):
        load_checkpoint(folder)


@pytest.mark.parametrize("file", ["index.json", "plain.pt", "part_0.bin"])
def test_a_missing_or_short_file_is_noticed(folder: Path, file: str) -> None:
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:-10])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load_checkpoint(folder)
    (folder / file).unlink()
    with pytest.raises(UserError, match=r"not a readable checkpoint|holds no checkpoint"):
        load_checkpoint(folder)


def test_names_and_trees() -> None:
    assert unflatten(flatten(TENSORS))["optimizer"] == TENSORS["optimizer"]
    with pytest.raises(ValueError, match="a/b"):
        flatten({"a/b": torch.zeros(1)})
