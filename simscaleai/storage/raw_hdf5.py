"""Write many small HDF5 episodes at once, without a call of the library for each object.

    raw = RawEpisodes(path)
    raw.add(0, attributes, {"actions": RawArray(values.shape, values.dtype, chunk), ...})
    raw.finish()                # then the HDF5 library opens the file, and adds to it what it likes

HDF5 takes 45 microseconds to create a dataset and 25 for an attribute: two thirds of a millisecond for an
episode of a state-only task, more than its simulation takes. But all episodes have the same objects, whose
headers differ in a few numbers: so the headers of all episodes are made as one array of bytes per object, and
the numbers filled in as columns.

What is written is the plain subset that this needs of the "HDF5 File Format Specification" (version 3.0,
The HDF Group): superblock 2, object headers 2, compact groups, datasets of a single filtered chunk,
attributes 3, and variable-length strings in global heaps. Any HDF5 library from 1.10 on reads it, and may
add to it.

Trap: a compact group is searched from its beginning, so this is for up to `MAX_EPISODES` episodes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from simscaleai.array_types import IntArray
from simscaleai.storage.header_columns import Bytes, HeaderColumns
from simscaleai.storage.object_headers import (
    StoredChunk,
    attribute_message,
    chunk_dim_bytes,
    dataset_headers,
    group_header,
    group_headers,
    superblock,
)

MAX_EPISODES = 4096
_SUPERBLOCK_BYTES = 48
_ALIGNMENT = 8
_HEAP_OBJECTS = 60_000  # of 65535 that an index of 16 bits can name
_MIN_HEAP_BYTES = 4096


@dataclass(frozen=True)
class RawArray:
    """An array of an episode: its shape and dtype, and the chunk as the filters leave it."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    chunk: bytes


class RawEpisodes:
    """Writes /data/demo_<i> to a new file: chunks as they come, and all headers in the end.

    Args:
      path: of the file; it is replaced.
      deflate: level of gzip that the chunks were compressed with, which headers name.
    """

    def __init__(self, path: str | os.PathLike[str], deflate: int) -> None:
        self._file = Path(path).open("wb")  # noqa: SIM115, open until `finish` or `close`
        self._file.write(bytes(_SUPERBLOCK_BYTES))  # which is written last
        self._deflate = deflate
        self._attributes: dict[int, Mapping[str, object]] = {}
        self._arrays: dict[int, dict[str, StoredChunk]] = {}

    def add(
        self, position: int, attributes: Mapping[str, object], arrays: Mapping[str, RawArray]
    ) -> dict[str, int]:
        """Write the chunks of an episode; return {path: first byte of its chunk}."""
        stored = self._arrays[position] = {}
        for path, array in arrays.items():
            offset = self._file.tell()
            self._file.write(array.chunk)
            stored[path] = StoredChunk(array.shape, array.dtype, offset, len(array.chunk))
        self._attributes[position] = attributes
        return {path: array.offset for path, array in stored.items()}

    def finish(self) -> None:
        """Write the headers of all episodes, the groups above them and the superblock; close the file."""
        order = sorted(self._arrays)
        assert 0 < len(order) <= MAX_EPISODES
        arrays = [self._arrays[i] for i in order]
        assert all(stored.keys() == arrays[0].keys() for stored in arrays)
        links: dict[str, dict[str, IntArray]] = {"": {}}  # {folder: {name: addresses (episodes,)}}
        for path in arrays[0]:
            folder, _, leaf = path.rpartition("/")
            addresses = self._write_datasets([stored[path] for stored in arrays])
            links.setdefault(folder, {})[leaf] = addresses
        for folder in sorted(links, key=len, reverse=True):  # the innermost first
            if folder:
                parent, _, leaf = folder.rpartition("/")
                links.setdefault(parent, {})[leaf] = self._append(group_headers(links[folder], []))
        attributes = self._attribute_messages([self._attributes[i] for i in order])
        demos = self._append(group_headers(links[""], attributes))
        named = {f"demo_{i}": address for i, address in zip(order, demos.tolist(), strict=True)}
        data = self._append(group_header(named))
        root = self._append(group_header({"data": int(data[0])}))
        end = self._file.tell()
        self._file.seek(0)
        self._file.write(superblock(int(root[0]), end))
        self._file.close()

    def close(self) -> None:
        """Close the file, finished or not."""
        self._file.close()

    def _write_datasets(self, stored: Sequence[StoredChunk]) -> IntArray:
        """Write the headers of an array of all episodes; return the address of each."""
        widths = np.array([chunk_dim_bytes(array) for array in stored])
        addresses = np.zeros(len(stored), np.int64)
        for width in np.unique(widths).tolist():  # mostly one: episodes of at most 255 steps
            which = np.flatnonzero(widths == width)
            headers = dataset_headers([stored[i] for i in which.tolist()], width, self._deflate)
            addresses[which] = self._append(headers)
        return addresses

    def _append(self, headers: Bytes) -> IntArray:
        """Write headers (n, bytes); return the address of each."""
        self._align()
        first, count, size = self._file.tell(), *headers.shape
        self._file.write(headers.tobytes())
        return first + size * np.arange(count, dtype=np.int64)

    def _align(self) -> None:
        self._file.write(bytes(-self._file.tell() % _ALIGNMENT))

    def _attribute_messages(self, episodes: Sequence[Mapping[str, object]]) -> list[HeaderColumns]:
        """Return the messages of each attribute; strings are written to heaps."""
        messages = []
        for name, first in episodes[0].items():
            values = [episode[name] for episode in episodes]
            if isinstance(first, str):
                kind, data = h5py.string_dtype(), self._heap(list(map(str, values)))
            else:
                array = np.array(values)  # (episodes,) of one dtype
                kind, data = array.dtype, array.view(np.uint8).reshape(len(values), -1)
            messages.append(attribute_message(name, kind, data))
        return messages

    def _heap(self, texts: Sequence[str]) -> Bytes:
        """Write texts to global heaps; return the references (n, 16) that attributes hold."""
        references = np.zeros((len(texts), 16), np.uint8)
        for start in range(0, len(texts), _HEAP_OBJECTS):
            self._align()
            address, parts, index = self._file.tell(), [], 0
            for i, text in enumerate(texts[start : start + _HEAP_OBJECTS], start):
                raw = text.encode()
                if raw:  # an empty one has no object
                    index += 1
                    parts.append(struct.pack("<HHIQ", index, 0, 0, len(raw)))
                    parts.append(raw + bytes(-len(raw) % 8))
                    reference = struct.pack("<IQI", len(raw), address, index)
                    references[i] = np.frombuffer(reference, np.uint8)
            body = b"".join(parts)
            free = max(_MIN_HEAP_BYTES - 16 - len(body), 16)
            body += struct.pack("<HHIQ", 0, 0, 0, free) + bytes(free - 16)
            self._file.write(b"GCOL\x01\0\0\0" + struct.pack("<Q", 16 + len(body)) + body)
        return references
