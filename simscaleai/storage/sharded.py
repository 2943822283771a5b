"""Checkpoints that several processes write together: a folder in place of a file.

    step_500/index.json   which tensors there are, and where each part of them lies; written last
    step_500/plain.pt     everything that is no tensor of the model or optimizer, as `checkpoint` writes it
    step_500/part_0.bin   bytes of tensors, one after the other; one file for each process

`torch.distributed.checkpoint` decides who writes and who reads which part (`storage.dcp`), so that any
number of processes can read what another number wrote. Its own files are not used: their index is a
pickle, and whoever reads one runs the code of whoever wrote it. Here the index is JSON and tensors are bare
bytes with a checksum; there is nothing in them that could run, and no more is read than the files hold.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simscaleai.errors import UserError
from simscaleai.guards import guarded, reason, regular_file

INDEX_FILE = "index.json"
PLAIN_FILE = "plain.pt"
ALIGNMENT = 64  # bytes; a tensor of any type can be looked at where it lies
FORMAT_VERSION = 1
_MAX_INDEX_BYTES = 64 * 2**20
_MAX_RANK = 16
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}


@dataclass(frozen=True)
class Part:
    """A box of a tensor, and the bytes that hold it in row-major order."""

    offset: tuple[int, ...]
    shape: tuple[int, ...]
    file: str
    start: int
    size: int
    crc32: int


@dataclass(frozen=True)
class Entry:
    """One tensor of the folder."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    parts: tuple[Part, ...]


def is_sharded(path: Path) -> bool:
    """Whether `path` is a complete checkpoint of this kind."""
    return (path / INDEX_FILE).is_file()


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, torch.Tensor]:
    """{"a": {"b": tensor}} -> {"a/b": tensor}; only tensors and mappings are in it."""
    flat: dict[str, torch.Tensor] = {}
    for key, value in tree.items():
        if "/" in key:
            raise ValueError(f"the name {key!r} cannot be part of a path")
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}/")
        else:
            flat[prefix + key] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *groups, name = path.split("/")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value
    return tree


def write_index(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Write `index.json`; the parts' files are complete before."""
    tensors = {
        name: {
            "dtype": str(entry.dtype).removeprefix("torch."),
            "shape": entry.shape,
            "parts": [vars(part) for part in entry.parts],
        }
        for name, entry in entries.items()
    }
    text = json.dumps({"format_version": FORMAT_VERSION, "tensors": tensors})
    (folder / INDEX_FILE).write_text(text, encoding="utf-8")


class ShardedFolder:
    """The tensors of such a folder, for reading; the index is checked against the files at once.

    Raises:
      UserError: the index is damaged, or claims what the files do not hold.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not is_sharded(folder):
            raise self._damaged(f"it has no {INDEX_FILE}")
        try:
            self.entries = self._read_index()
        except UserError:
            raise
        except Exception as error:  # as in `guards.guarded`
            raise self._damaged(f"its {INDEX_FILE} cannot be read ({reason(error)})") from error

    def read(self) -> dict[str, torch.Tensor]:
        """All tensors whole, in CPU memory or mapped from their file."""
        return {name: self._assemble(name, entry) for name, entry in self.entries.items()}

    def part(self, name: str, part: Part) -> torch.Tensor:
        """One part of a tensor, mapped from its file.

        Raises:
          UserError: its bytes are not those that were written.
        """
        with guarded(f"{name!r} in {str(self.folder)!r}", "use another checkpoint of the run"):
            data = self._files[part.file][part.start : part.start + part.size]
        if zlib.crc32(data.data) != part.crc32:
            raise self._damaged(f"the bytes of {name!r} in {part.file} are not what was written")
        return torch.from_numpy(data).view(self.entries[name].dtype).reshape(part.shape)

    def verify(self) -> None:
        """Read everything once; UserError at the first damage."""
        for name, entry in self.entries.items():
            for part in entry.parts:
                self.part(name, part)

    def _assemble(self, name: str, entry: Entry) -> torch.Tensor:
        if len(entry.parts) == 1:
            return self.part(name, entry.parts[0])
        whole = torch.zeros(entry.shape, dtype=entry.dtype)
        for part in entry.parts:
            box = tuple(slice(o, o + n) for o, n in zip(part.offset, part.shape, strict=True))
            whole[box] = self.part(name, part)
        return whole

    @cached_property
    def _files(self) -> dict[str, np.ndarray]:
        """The bytes of each file; written to by nobody, and if so, in memory only."""
        names = {part.file for entry in self.entries.values() for part in entry.parts}
        return {
            name: np.memmap(self.folder / name, np.uint8, "c")
            if (self.folder / name).stat().st_size
            else np.empty(0, np.uint8)
            for name in names
        }

    def _read_index(self) -> dict[str, Entry]:
        path = regular_file(self.folder / INDEX_FILE, "checkpoint's index")
        if path.stat().st_size > _MAX_INDEX_BYTES:
            raise ValueError("too long")
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format_version"] != FORMAT_VERSION:
            raise self._damaged(f"it is of format version {data['format_version']!r}")
        entries = {str(name): _entry(about) for name, about in data["tensors"].items()}
        groups = {name[:i] for name in entries for i, c in enumerate(name) if c == "/"}
        if groups & entries.keys():
            raise ValueError("a tensor is in the place of a group of others")
        self._check_sizes(entries)
        return entries

    def _check_sizes(self, entries: dict[str, Entry]) -> None:
        """Every part lies in a file of this folder, and all together are not more than the files."""
        total, sizes = 0, dict[str, int]()
        for name, part in _parts(entries):
            if part.file not in sizes:
                if os.path.basename(part.file) != part.file or not part.file.endswith(".bin"):
                    raise self._damaged(f"{name!r} is said to lie in {part.file!r}")
                file = self.folder / part.file
                if file.is_symlink() or not file.is_file():
                    raise self._damaged(f"its file {part.file} is missing")
                sizes[part.file] = file.stat().st_size
            if part.start + part.size > sizes[part.file]:
                raise self._damaged(f"its file {part.file} is cut short")
            total += part.size
        if total > sum(sizes.values()):
            raise self._damaged("its tensors claim to be larger than its files")

    def _damaged(self, problem: str) -> UserError:
        return UserError(
            f"The folder {str(self.folder)!r} is not a readable checkpoint: {problem};"
            " use another checkpoint of the run."
        )


def _parts(entries: dict[str, Entry]) -> Iterator[tuple[str, Part]]:
    for name, entry in entries.items():
        for part in entry.parts:
            yield name, part


def _entry(about: dict[str, Any]) -> Entry:
    """One tensor of the index; ValueError unless its parts fill it and are within it."""
    dtype, shape = _DTYPES[about["dtype"]], _numbers(about["shape"])
    parts = tuple(
        Part(
            _numbers(p["offset"]),
            _numbers(p["shape"]),
            str(p["file"]),
            *_numbers((p["start"], p["size"], p["crc32"])),
        )
        for p in about["parts"]
    )
    for part in parts:
        ends = [o + n for o, n in zip(part.offset, part.shape, strict=True)]
        if any(end > n for end, n in zip(ends, shape, strict=True)):
            raise ValueError("a part lies outside its tensor")
        if part.size != math.prod(part.shape) * dtype.itemsize:
            raise ValueError("a part is not as long as its shape")
    if sum(part.size for part in parts) != math.prod(shape) * dtype.itemsize:
        raise ValueError("the parts do not make up the tensor")
    return Entry(dtype, shape, parts)


def _numbers(values: Any) -> tuple[int, ...]:
    numbers = tuple(values)
    if len(numbers) > _MAX_RANK or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("not a list of counts")
    return numbers
