"""Checkpoints that several processes write together: a folder instead of a file.

    step_500/index.json   the tensors and where each of their shards is stored; written last
    step_500/plain.pt     everything but tensors of the model and optimizer, as `checkpoint` writes it
    step_500/part_0.bin   bytes of tensors, one after the other; one file for each process

`torch.distributed.checkpoint` decides which process writes and reads which shard (`storage.dcp`), so that the
number of processes may differ between writing and reading. Its file format is not used, because its index
is a pickle, which can run code when it is read. Here the index is JSON and tensors are raw bytes with
checksums: nothing can run, and the sizes in the index are checked against those of the files.
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
from typing import Any, cast

import numpy as np
import torch

from simscaleai.array_types import Array
from simscaleai.errors import UserError
from simscaleai.guards import guarded, reason, regular_file
from simscaleai.json_types import JsonDict
from simscaleai.tensor_types import Tensors, TensorTree

INDEX_FILE = "index.json"
PLAIN_FILE = "plain.pt"
ALIGNMENT = 64  # bytes; aligns memory-mapped tensors of any dtype
FORMAT_VERSION = 1
_MAX_INDEX_BYTES = 64 * 2**20
_MAX_RANK = 16  # axes of a tensor
# Only these can be read: an index cannot name another attribute of torch.
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}


@dataclass(frozen=True)
class TensorShard:
    """A box of a tensor, and the location of its values, in C order."""

    offset: tuple[int, ...]  # of the box in the tensor
    shape: tuple[int, ...]  # of the box
    file: str
    start: int  # bytes
    size: int  # bytes
    crc32: int


@dataclass(frozen=True)
class Entry:
    """One tensor of the folder."""

    dtype: torch.dtype
    shape: tuple[int, ...]  # of the full tensor
    shards: tuple[TensorShard, ...]


def flatten(tree: TensorTree, prefix: str = "") -> Tensors:
    """Flatten {"a": {"b": tensor}} to {"a/b": tensor}."""
    flat: Tensors = {}
    for key, value in tree.items():
        if "/" in key:
            raise ValueError(f"the name {key!r} cannot be used in a path")
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}/")
        else:
            flat[prefix + key] = value
    return flat


def unflatten(flat: Tensors) -> TensorTree:
    """Return the inverse of `flatten`."""
    tree: TensorTree = {}
    for path, value in flat.items():
        *groups, name = path.split("/")
        place = tree
        for group in groups:
            # `_read_index` has refused names that are both a tensor and a group
            place = cast(TensorTree, place.setdefault(group, {}))
        place[name] = value
    return tree


def write_index(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Write `index.json`; call it after the files of all shards are complete."""
    tensors = {
        name: {
            "dtype": str(entry.dtype).removeprefix("torch."),
            "shape": entry.shape,
            "parts": [vars(shard) for shard in entry.shards],
        }
        for name, entry in entries.items()
    }
    text = json.dumps({"format_version": FORMAT_VERSION, "tensors": tensors})
    (folder / INDEX_FILE).write_text(text, encoding="utf-8")


class ShardedCheckpoint:
    """Reader of a checkpoint folder; the constructor checks the index against the files.

    Raises:
      UserError: the index is damaged or does not match the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / INDEX_FILE).is_file():
            raise self._damaged(f"it has no {INDEX_FILE}")
        try:
            self.entries = self._read_index()
        except UserError:
            raise
        except Exception as error:  # as in `guards.guarded`
            raise self._damaged(f"its {INDEX_FILE} cannot be read ({reason(error)})") from error

    def read(self) -> Tensors:
        """Return all full tensors, in CPU memory or memory-mapped."""
        return {name: self._assemble(name, entry) for name, entry in self.entries.items()}

    def shard(self, name: str, shard: TensorShard) -> torch.Tensor:
        """Return one shard of a tensor, memory-mapped.

        Raises:
          UserError: its bytes do not match their checksum.
        """
        with guarded(f"{name!r} in {str(self.folder)!r}", "use another checkpoint of the run"):
            data = self._files[shard.file][shard.start : shard.start + shard.size]
        if zlib.crc32(data.data) != shard.crc32:
            raise self._damaged(f"the bytes of {name!r} in {shard.file} are not what was written")
        return torch.from_numpy(data).view(self.entries[name].dtype).reshape(shard.shape)

    def verify(self) -> None:
        """Read all bytes once; raise UserError at the first damage."""
        for name, entry in self.entries.items():
            for shard in entry.shards:
                self.shard(name, shard)

    def _assemble(self, name: str, entry: Entry) -> torch.Tensor:
        if len(entry.shards) == 1:  # without a copy
            return self.shard(name, entry.shards[0])
        whole = torch.zeros(entry.shape, dtype=entry.dtype)
        for shard in entry.shards:
            box = tuple(slice(o, o + n) for o, n in zip(shard.offset, shard.shape, strict=True))
            whole[box] = self.shard(name, shard)
        return whole

    @cached_property
    def _files(self) -> dict[str, Array]:
        """The bytes of each file, mapped copy-on-write: writing to a tensor does not change the file."""
        names = {shard.file for entry in self.entries.values() for shard in entry.shards}
        return {
            name: np.memmap(self.folder / name, np.uint8, "c")
            if (self.folder / name).stat().st_size
            else np.empty(0, np.uint8)  # an empty file cannot be mapped
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
        # "a" and "a/b" cannot both exist in nested dicts
        groups = {name[:i] for name in entries for i, c in enumerate(name) if c == "/"}
        if groups & entries.keys():
            raise ValueError("a tensor has the name of a group of others")
        self._check_sizes(entries)
        return entries

    def _check_sizes(self, entries: dict[str, Entry]) -> None:
        """Check that every shard is inside a file of the folder, and that together they fit in the files."""
        total, sizes = 0, dict[str, int]()
        for name, shard in _shards(entries):
            if shard.file not in sizes:
                # no path: a file of the folder itself, which is no link to another one
                if os.path.basename(shard.file) != shard.file or not shard.file.endswith(".bin"):
                    raise self._damaged(f"{name!r} is said to be in {shard.file!r}")
                file = self.folder / shard.file
                if file.is_symlink() or not file.is_file():
                    raise self._damaged(f"its file {shard.file} is missing")
                sizes[shard.file] = file.stat().st_size
            if shard.start + shard.size > sizes[shard.file]:
                raise self._damaged(f"its file {shard.file} is cut short")
            total += shard.size
        # shards that overlap could claim the same bytes many times
        if total > sum(sizes.values()):
            raise self._damaged("its tensors claim to be larger than its files")

    def _damaged(self, problem: str) -> UserError:
        return UserError(
            f"The folder {str(self.folder)!r} is not a readable checkpoint: {problem};"
            " use another checkpoint of the run."
        )


def _shards(entries: dict[str, Entry]) -> Iterator[tuple[str, TensorShard]]:
    for name, entry in entries.items():
        for shard in entry.shards:
            yield name, shard


def _entry(about: JsonDict) -> Entry:
    """Parse one tensor of the index; ValueError unless its shards lie inside it and fill it."""
    dtype, shape = _DTYPES[about["dtype"]], _numbers(about["shape"])
    shards = tuple(
        TensorShard(
            _numbers(p["offset"]),
            _numbers(p["shape"]),
            str(p["file"]),
            *_numbers((p["start"], p["size"], p["crc32"])),
        )
        for p in about["parts"]
    )
    for shard in shards:
        ends = [o + n for o, n in zip(shard.offset, shard.shape, strict=True)]
        if any(end > n for end, n in zip(ends, shape, strict=True)):
            raise ValueError("a shard is outside its tensor")
        if shard.size != math.prod(shard.shape) * dtype.itemsize:
            raise ValueError("a shard is not as long as its shape")
    if sum(shard.size for shard in shards) != math.prod(shape) * dtype.itemsize:
        raise ValueError("the shards do not fill the tensor")
    return Entry(dtype, shape, shards)


def _numbers(values: Any) -> tuple[int, ...]:
    numbers = tuple(values)  # whatever the file has in this place
    if len(numbers) > _MAX_RANK or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("not a list of counts")
    return numbers
