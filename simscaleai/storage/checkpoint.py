"""Checkpoints: plain values and tensors, written atomically and read as untrusted input.

A payload consists of dicts, lists, tuples, strings, numbers, None and tensors. Nothing else can be saved, so
nothing that runs code is ever loaded. A checkpoint is a file, or a folder that several processes wrote
(`storage.sharded_checkpoint`); both are read in the same way. No other module calls `torch.load`.

`torch.load(weights_only=True)` runs no code, but it calls a few harmless types with arguments from the
file, and one of them can be a `bytearray` of a terabyte. Therefore the names in the pickle are checked first.
"""

from __future__ import annotations

import os
import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any, TypeAlias

import torch

from simscaleai.errors import UserError
from simscaleai.guards import guarded, regular_file
from simscaleai.storage.atomic import atomic_path, temporary_for
from simscaleai.storage.find_checkpoint import find_checkpoint
from simscaleai.storage.sharded_checkpoint import (
    INDEX_FILE,
    PLAIN_FILE,
    ShardedCheckpoint,
    flatten,
    unflatten,
)
from simscaleai.tensor_types import TensorTree

FORMAT_VERSION = 1

Payload: TypeAlias = dict[str, Any]
"""Content of a checkpoint: nested plain values and tensors by name, whose types the reader knows."""

# Names that `torch.save` writes for tensors of plain numbers.
_ALLOWED = re.compile(
    r"torch\._utils _rebuild_tensor_v2|collections OrderedDict|torch [A-Z][A-Za-z0-9]*Storage"
)


def save_checkpoint(path: str | Path, payload: Payload) -> Path:
    """Write `payload` with the current format version, atomically; return the path.

    Raises:
      TypeError: the payload contains something that is neither a plain value nor a tensor.
    """
    stray = _stray(payload)
    if stray:
        raise TypeError(f"a checkpoint holds plain values and tensors only, not {stray}")
    with atomic_path(path) as temporary:
        torch.save({"format_version": FORMAT_VERSION, **payload}, temporary)
    return Path(path)


def require_storable(payload: Payload) -> None:
    """Raise UserError if `payload` could not be saved; call it before a long training."""
    stray = _stray(payload)
    if stray:
        raise UserError(
            f"A checkpoint could not be saved in the end, as it would hold {stray}; give numbers, text, lists"
            " and tensors alone."
        )


def save_sharded_checkpoint(path: str | Path, payload: Payload, tensors: TensorTree) -> Path:
    """Write a checkpoint folder, to which every process adds its shards; return the path.

    Args:
      path: the folder, on a file system of all processes.
      payload: plain values and tensors; only that of the main process is written.
      tensors: nested dicts of tensors or DTensors with the same names in all processes; loading returns
        them as further entries of the payload.
    """
    from simscaleai.storage.dcp import write_folder  # slow to import; see there

    def write_plain(folder: Path) -> None:
        save_checkpoint(folder / PLAIN_FILE, payload)

    write_folder(Path(path), flatten(tensors), write_plain)
    return Path(path)


def load_checkpoint(path: str | Path) -> Payload:
    """Read a payload of `save_checkpoint` or `save_sharded_checkpoint`, with full tensors on the CPU.

    Tensors are memory-mapped: the file must not change while they are in use. In the folder of a run,
    `find_checkpoint` selects the checkpoint.

    Raises:
      UserError: it is missing, damaged, of another format, or contains more than plain values and tensors.
    """
    path = find_checkpoint(path)
    if not path.is_dir():
        return _load_file(path)
    if not (path / INDEX_FILE).is_file():
        raise UserError(
            f"The folder {str(path)!r} holds a policy to act with and nothing of its training; give a"
            " checkpoint of its run."
        )
    payload, folder = load_sharded_checkpoint(path)
    with guarded(f"The checkpoint {str(path)!r}", "use another checkpoint of the run"):
        return {**payload, **unflatten(folder.read())}


def load_sharded_checkpoint(path: str | Path) -> tuple[Payload, ShardedCheckpoint]:
    """Return the payload of `save_sharded_checkpoint`, and a reader of its tensors."""
    path = find_checkpoint(path)
    folder = ShardedCheckpoint(path)
    return _load_file(regular_file(path / PLAIN_FILE, "checkpoint")), folder


def point_at(pointer: Path, target: Path) -> None:
    """Make `pointer` a symbolic link to `target` beside it, or a text file with the name of `target`."""
    temporary = temporary_for(pointer)
    try:
        temporary.symlink_to(target.name)
    except OSError:  # Windows, and some network file systems, have no symbolic links
        temporary.write_text(f"{target.name}\n", encoding="utf-8")
    os.replace(temporary, pointer)


def _load_file(path: Path) -> Payload:
    with guarded(f"The file {str(path)!r}", "only checkpoints saved by this package can be loaded"):
        _check_archive(path)
        # mapped: the policy of a large training checkpoint is read without the optimizer's state
        # (Windows replaces no file that is mapped, such as the checkpoint that a resumed run writes again)
        mapped = os.name == "posix"
        payload = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        return _checked(payload, path)


def _checked(payload: object, path: Path) -> Payload:
    """Return the payload if it has this format and only allowed values; otherwise raise UserError."""
    version = payload.get("format_version") if isinstance(payload, dict) else None
    if not isinstance(payload, dict) or version != FORMAT_VERSION:
        found = "none" if version is None else repr(version)
        raise UserError(
            f"The file {str(path)!r} has checkpoint format version {found}, and this release reads"
            f" {FORMAT_VERSION}; train again or use the release that wrote it."
        )
    stray = _stray(payload)
    if stray:
        raise UserError(f"The checkpoint {str(path)!r} holds {stray}, which is not allowed in one.")
    return payload


def _check_archive(path: Path) -> None:
    """Raise UserError unless the file is an undamaged, uncompressed zip archive; it is read block by block.

    Torch stores records uncompressed. Without compression, no record can be larger than the file.
    """
    problem: str | None = None
    try:
        with zipfile.ZipFile(path) as archive:
            size = path.stat().st_size
            entries = archive.infolist()
            if any(e.compress_type != zipfile.ZIP_STORED for e in entries):
                problem = "its records are compressed"
            elif sum(e.file_size for e in entries) > size:
                problem = "its records claim to be larger than the file"
            elif min((e.header_offset for e in entries), default=0):
                # torch and zipfile may read different records from such a file
                problem = "there is something before its first record"
            elif (damaged := archive.testzip()) is not None:
                problem = f"its record {damaged!r} is damaged"
            else:
                problem = _foreign_name(archive)
    except Exception:  # zipfile and pickletools raise a dozen types for damaged files
        problem = "it is cut short, damaged or of another kind"
    if problem:
        import h5py  # only where a checkpoint is refused

        if h5py.is_hdf5(path):
            raise UserError(
                f"The file {str(path)!r} is a dataset (HDF5) and no checkpoint; give a checkpoint, or the"
                " folder or name of a run."
            )
        raise UserError(
            f"The file {str(path)!r} is not a readable checkpoint: {problem};"
            " use another checkpoint of the run."
        )


def _foreign_name(archive: zipfile.ZipFile) -> str | None:
    """Describe a global in the archive's pickles that no plain value needs; None if there is none."""
    for entry in archive.infolist():
        if not entry.filename.lower().endswith(".pkl"):
            continue
        for opcode, argument, _ in pickletools.genops(archive.read(entry)):
            # these take the name from the stack or a registry, where it cannot be checked
            if opcode.name in ("INST", "STACK_GLOBAL") or opcode.name.startswith("EXT"):
                return f"it names things in a way ({opcode.name}) that this package does not"
            if opcode.name == "GLOBAL" and not _ALLOWED.fullmatch(str(argument)):
                return f"it holds a {str(argument).replace(' ', '.')}"
    return None


def _stray(payload: object) -> str | None:
    """Describe a value in `payload` that a checkpoint must not contain; None if there is none."""
    visited: set[int] = set()  # containers may be shared or contain themselves
    todo: list[tuple[str, object]] = [("payload", payload)]
    while todo:
        where, value = todo.pop()
        if isinstance(value, torch.Tensor):
            plain = type(value) is torch.Tensor and value.layout == torch.strided
            if not plain or value.is_quantized or value.is_meta:
                return f"an unusual tensor at {where}"
            # a stride of 0 would let a few bytes claim to be a tensor of terabytes
            backed = value.untyped_storage().nbytes()
            if value.numel() * value.element_size() > backed:
                return f"a tensor at {where} that claims more than its {backed} bytes"
        elif isinstance(value, dict | list | tuple) and type(value) in (dict, list, tuple):
            if id(value) in visited:
                continue
            visited.add(id(value))
            keyed = value.items() if isinstance(value, dict) else enumerate(value)
            for key, entry in keyed:
                if type(key) not in (str, int):
                    return f"the key {key!r} at {where}"
                todo.append((f"{where}.{key}", entry))
        elif value is not None and type(value) not in (str, int, float, bool):
            return f"a {type(value).__name__} at {where}"
    return None
