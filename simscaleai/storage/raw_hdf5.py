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
from pathlib import Path
from typing import NamedTuple

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
# To an object of a heap.
_REFERENCE = np.dtype([("size", "<u4"), ("address", "<u8"), ("index", "<u4")])


class RawArray(NamedTuple):
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
        self._end = 0  # bytes written so far
        self._put(bytes(_SUPERBLOCK_BYTES))  # which is written last
        self._deflate = deflate
        self._attributes: dict[int, Mapping[str, object]] = {}
        self._arrays: dict[int, dict[str, StoredChunk]] = {}

    def add(
        self, position: int, attributes: Mapping[str, object], arrays: Mapping[str, RawArray]
    ) -> dict[str, int]:
        """Write the chunks of an episode; return {path: first byte of its chunk}."""
        stored, offset = {}, self._end
        for path, array in arrays.items():
            stored[path] = StoredChunk(array.shape, array.dtype, offset, len(array.chunk))
            offset += len(array.chunk)
        self._put(b"".join([array.chunk for array in arrays.values()]))
        self._arrays[position], self._attributes[position] = stored, attributes
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
        self._file.seek(0)
        self._file.write(superblock(int(root[0]), self._end))
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
        first, count, size = self._end, *headers.shape
        self._put(headers.tobytes())
        return first + size * np.arange(count, dtype=np.int64)

    def _align(self) -> None:
        self._put(bytes(-self._end % _ALIGNMENT))

    def _put(self, raw: bytes) -> None:
        self._file.write(raw)
        self._end += len(raw)

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
        encoded = [text.encode() for text in texts]
        references = np.zeros(len(texts), _REFERENCE)
        references["size"] = list(map(len, encoded))
        for start in range(0, len(texts), _HEAP_OBJECTS):
            self._align()
            part = references[start : start + _HEAP_OBJECTS]  # a view
            there = part["size"] > 0  # an empty one has no object
            part["address"][there] = self._end
            part["index"][there] = 1 + np.arange(np.count_nonzero(there))
            raws = filter(None, encoded[start : start + _HEAP_OBJECTS])
            body = b"".join(
                struct.pack("<HHIQ", index, 0, 0, len(raw)) + raw + bytes(-len(raw) % 8)
                for index, raw in enumerate(raws, 1)
            )
            free = max(_MIN_HEAP_BYTES - 16 - len(body), 16)
            body += struct.pack("<HHIQ", 0, 0, 0, free) + bytes(free - 16)
            self._put(b"GCOL\x01\0\0\0" + struct.pack("<Q", 16 + len(body)) + body)
        return references.view(np.uint8).reshape(len(texts), -1)
