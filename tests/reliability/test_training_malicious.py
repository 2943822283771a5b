"""Checkpoints from strangers, through everything that loads one: refused, nothing run, no memory taken."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

from simscaleai.errors import UserError
from simscaleai.models import create_model
from simscaleai.models.policy import ModelPolicy
from simscaleai.storage.checkpoint import load_checkpoint, save_checkpoint
from simscaleai.storage.sharded_checkpoint import INDEX_FILE, PLAIN_FILE
from simscaleai.training import TrainConfig, Trainer
from simscaleai.training.data.dummy import DummyTrajectoryDataset
from simscaleai.training.data.loader import make_loader

HUGE = 2**40
LIMIT = 100 * 2**20  # bytes; every file here is far smaller


class Evil:
    """Writes a file when it is unpickled."""

    target = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.target, "w"))


class Large:
    """A gigabyte when it is unpickled, by a type that `weights_only=True` allows."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (bytearray, (2**30,))


def trainer(folder: Path, **kwargs: Any) -> Trainer:
    base: dict[str, Any] = {"batch_size": 8, "max_steps": 2, "warmup_steps": 0, "device": "cpu"}
    base |= {"show_progress": False, "use_tensorboard": False, "checkpoint_dir": str(folder)}
    model = create_model("bc", state_dim=5, hidden_dim=16, n_layers=2)
    data = DummyTrajectoryDataset(16, obs_dim=5)
    return Trainer(model, make_loader(data, 8), TrainConfig(**{**base, **kwargs}))


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint, from which the others are made."""
    folder = tmp_path_factory.mktemp("honest")
    trainer(folder).train()
    return folder / "final.pt"


def payload(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def rezip(source: Path, path: Path, change: Callable[[str, bytes], bytes], **kwargs: Any) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", **kwargs) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))


def in_config(honest: Path, path: Path) -> None:
    values = payload(honest)
    values["config"]["model_kwargs"] = {"deep": [Evil()]}
    torch.save(values, path)


def in_optimizer(honest: Path, path: Path) -> None:
    values = payload(honest)
    next(iter(values["optimizer"].values()))["exp_avg"] = Evil()
    torch.save(values, path)


def as_key(honest: Path, path: Path) -> None:
    torch.save({**payload(honest), "metrics": {(Evil(),): 1.0}}, path)


def large_type(honest: Path, path: Path) -> None:
    torch.save({**payload(honest), "metrics": Large()}, path)


def old_pickle(honest: Path, path: Path) -> None:
    torch.save({**payload(honest), "x": Evil()}, path, _use_new_zipfile_serialization=False)


def plain_pickle(honest: Path, path: Path) -> None:
    path.write_bytes(pickle.dumps(Evil()))


def old_tar(honest: Path, path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            content = pickle.dumps(Evil())
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def torchscript(honest: Path, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is old, and still what somebody may send
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))


def zip_bomb(honest: Path, path: Path) -> None:
    rezip(
        honest,
        path,
        lambda name, data: bytes(2**28) if name.endswith("/data/0") else data,
        compression=zipfile.ZIP_DEFLATED,
    )


def claimed_size(honest: Path, path: Path) -> None:
    """The directory says that a record is larger than the file."""
    content = bytearray(honest.read_bytes())
    with zipfile.ZipFile(honest) as archive:
        start = archive.start_dir
    content[start + 20 : start + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(content)


def prefix(honest: Path, path: Path) -> None:
    """Readers do not agree where an archive with something before it begins."""
    path.write_bytes(bytes(64) + honest.read_bytes())


def expanded(honest: Path, path: Path) -> None:
    torch.save({**payload(honest), "x": torch.zeros(1).expand(HUGE)}, path)


def claimed_numbers(honest: Path, path: Path) -> None:
    """A tensor and its storage of a terabyte, with 7 numbers behind them."""
    torch.save({"format_version": 1, "x": torch.zeros(7)}, path)

    def swell(name: str, data: bytes) -> bytes:
        seven, huge = b"K\x07", b"\x8a\x06" + HUGE.to_bytes(6, "little")
        return data.replace(seven, huge) if name.endswith(".pkl") else data

    small = path.with_name("small.pt")
    path.rename(small)
    rezip(small, path, swell)


def claimed_shape(honest: Path, path: Path) -> None:
    """The same with an honest storage."""
    torch.save({"format_version": 1, "x": torch.zeros(7)}, path)

    def swell(name: str, data: bytes) -> bytes:
        shape, huge = b"K\x07\x85", b"\x8a\x06" + HUGE.to_bytes(6, "little") + b"\x85"
        return data.replace(shape, huge) if name.endswith(".pkl") else data

    small = path.with_name("small.pt")
    path.rename(small)
    rezip(small, path, swell)


FILES = [
    *(in_config, in_optimizer, as_key, large_type, old_pickle, plain_pickle, old_tar, torchscript),
    *(zip_bomb, claimed_size, prefix, expanded, claimed_numbers, claimed_shape),
]


def folder_of(honest: Path, path: Path, index: Any) -> None:
    """A checkpoint in parts with an index of one's own; its tensors are 64 zeros."""
    path.mkdir()
    plain = {k: v for k, v in payload(honest).items() if k not in ("weights", "optimizer")}
    save_checkpoint(path / PLAIN_FILE, plain)
    (path / "part_0.bin").write_bytes(bytes(64))
    text = index if isinstance(index, str) else json.dumps({"format_version": 1, "tensors": index})
    (path / INDEX_FILE).write_text(text)


def tensor(shape: Any = (16,), dtype: str = "float32", **part: Any) -> dict[str, Any]:
    about = {"offset": [0], "shape": [16], "file": "part_0.bin", "start": 0, "size": 64}
    return {"dtype": dtype, "shape": shape, "parts": [{**about, "crc32": 1972200246, **part}]}


INDICES: dict[str, Any] = {
    "not JSON": "{",
    "deep": "[" * 100_000,
    "another file": {"weights/a": tensor(file="../final.pt")},
    "any file": {"weights/a": tensor(file="/etc/passwd")},
    "a link": {"weights/a": tensor(file="link.bin")},
    "no such file": {"weights/a": tensor(file="part_9.bin")},
    "huge": {"weights/a": tensor(shape=[HUGE])},
    "huge throughout": {
        "weights/a": {
            "dtype": "float32",
            "shape": [HUGE],
            "parts": [{**tensor()["parts"][0], "shape": [HUGE], "size": 4 * HUGE}],
        }
    },
    "many times the same bytes": {f"weights/{i}": tensor() for i in range(10_000)},
    "negative": {"weights/a": tensor(start=-64)},
    "outside": {"weights/a": tensor(start=32)},
    "no type": {"weights/a": tensor(dtype="object")},
    "many axes": {"weights/a": tensor(shape=[1] * 10_000)},
    "text": {"weights/a": "text"},
    "damaged": {"weights/a": tensor(crc32=1)},
}


def torch_folder(path: Path) -> None:
    """What `torch.distributed.checkpoint` itself writes, with an index that does something."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"weights": {"a": torch.zeros(2)}}, checkpoint_id=path)
    (path / ".metadata").write_bytes(pickle.dumps(Evil()))


def peak() -> int:
    """The most memory that this process has had since `forget_peak`, in bytes."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return 1024 * int(match[1])


def refused_by_all(path: Path, folder: Path) -> None:
    """Every loader, and looking for a checkpoint to go on from."""
    linux = sys.platform == "linux"
    if linux:
        Path("/proc/self/clear_refs").write_text("5")
        before = peak()
    for load in (
        load_checkpoint,
        lambda p: ModelPolicy.from_checkpoint(p, device="cpu"),
        lambda p: trainer(folder / "a").load_checkpoint(str(p)),
        lambda p: trainer(folder / "b", resume_from=str(p)),
    ):
        with pytest.raises(UserError) as error:
            load(path)
        assert "\n" not in str(error.value)
    (folder / "c").mkdir()
    place = folder / "c" / ("step_7" if path.is_dir() else "step_7.pt")
    path.rename(place)
    assert trainer(folder / "c", resume_from="auto").step == 0
    assert not Path(Evil.target).exists(), "code of the checkpoint was run"
    if linux:
        assert peak() - before < LIMIT


@pytest.fixture(autouse=True)
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Evil, "target", str(tmp_path / "pwned"))


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_files(honest: Path, tmp_path: Path, make: Callable[[Path, Path], None]) -> None:
    path = tmp_path / "evil.pt"
    make(honest, path)
    refused_by_all(path, tmp_path)


@pytest.mark.parametrize("name", INDICES)
def test_folders(honest: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "step_7"
    folder_of(honest, path, INDICES[name])
    (path / "link.bin").symlink_to("part_0.bin")
    refused_by_all(path, tmp_path)


def test_folder_with_a_pickle(honest: Path, tmp_path: Path) -> None:
    path = tmp_path / "step_7"
    folder_of(honest, path, {"weights/a": tensor()})
    in_config(honest, path / PLAIN_FILE)
    refused_by_all(path, tmp_path)


def test_folder_of_torch(tmp_path: Path) -> None:
    torch_folder(tmp_path / "step_7")
    refused_by_all(tmp_path / "step_7", tmp_path)


def test_the_tests_would_notice(honest: Path, tmp_path: Path) -> None:
    """The honest file loads, and so do 64 zeros in a folder; the payload does run where it is let."""
    assert trainer(tmp_path / "a", resume_from=str(honest)).step == 2
    folder_of(honest, tmp_path / "step_7", {"weights/a": tensor()})
    assert torch.equal(load_checkpoint(tmp_path / "step_7")["weights"]["a"], torch.zeros(16))
    in_config(honest, tmp_path / "evil.pt")
    torch.load(tmp_path / "evil.pt", weights_only=False)["config"]["model_kwargs"]["deep"][
        0
    ].close()
    assert Path(Evil.target).exists()
