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
from typing import Any, TypeAlias

import h5py
import numpy as np
from h5py import h5t, h5z
from numpy.typing import NDArray

from simscaleai.array_types import Array, IntArray

MAX_EPISODES = 4096
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_UNDEFINED = 2**64 - 1
_SUPERBLOCK_BYTES = 48
_ALIGNMENT = 8
# message types of the specification, section IV.A.2
_DATASPACE, _LINK_INFO, _DATATYPE, _FILL_VALUE = 0x01, 0x02, 0x03, 0x05
_LINK, _LAYOUT, _GROUP_INFO, _FILTERS, _ATTRIBUTE = 0x06, 0x08, 0x0A, 0x0B, 0x0C
_HEAP_OBJECTS = 60_000  # of 65535 that an index of 16 bits can name
_MIN_HEAP_BYTES = 4096

Word: TypeAlias = Any
"""A 32-bit word as an integer, or that of many headers as an array of uint64."""
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class RawArray:
    """An array of an episode: its shape and dtype, and the chunk as the filters leave it."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    chunk: bytes


@dataclass(frozen=True)
class _Stored:
    """Where the chunk of an array is in the file."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    offset: int
    nbytes: int


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
        self._arrays: dict[int, dict[str, _Stored]] = {}

    def add(
        self, position: int, attributes: Mapping[str, object], arrays: Mapping[str, RawArray]
    ) -> dict[str, int]:
        """Write the chunks of an episode; return {path: first byte of its chunk}."""
        stored = self._arrays[position] = {}
        for path, array in arrays.items():
            offset = self._file.tell()
            self._file.write(array.chunk)
            stored[path] = _Stored(array.shape, array.dtype, offset, len(array.chunk))
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
                links.setdefault(parent, {})[leaf] = self._append(_group_headers(links[folder], []))
        attributes = self._attribute_messages([self._attributes[i] for i in order])
        demos = self._append(_group_headers(links[""], attributes))
        named = {f"demo_{i}": address for i, address in zip(order, demos.tolist(), strict=True)}
        data = self._append(_group_header(named))
        root = self._append(_group_header({"data": int(data[0])}))
        end = self._file.tell()
        self._file.seek(0)
        self._file.write(_superblock(int(root[0]), end))
        self._file.close()

    def close(self) -> None:
        """Close the file, finished or not."""
        self._file.close()

    def _write_datasets(self, stored: Sequence[_Stored]) -> IntArray:
        """Write the headers of an array of all episodes; return the address of each."""
        widths = np.array([_chunk_dim_bytes(array) for array in stored])
        addresses = np.zeros(len(stored), np.int64)
        for width in np.unique(widths).tolist():  # mostly one: episodes of at most 255 steps
            which = np.flatnonzero(widths == width)
            headers = _dataset_headers([stored[i] for i in which.tolist()], width, self._deflate)
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

    def _attribute_messages(self, episodes: Sequence[Mapping[str, object]]) -> list[_Columns]:
        """Return the messages of each attribute; strings are written to heaps."""
        messages = []
        for name, first in episodes[0].items():
            values = [episode[name] for episode in episodes]
            if isinstance(first, str):
                kind, data = h5py.string_dtype(), self._heap(list(map(str, values)))
            else:
                array = np.array(values)  # (episodes,) of one dtype
                kind, data = array.dtype, array.view(np.uint8).reshape(len(values), -1)
            messages.append(_attribute(name, kind, data))
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


class _Columns:
    """Bytes that are the same in n headers but for some columns, as a template and what replaces it."""

    def __init__(self, template: bytes = b"") -> None:
        self.template = template
        self.columns: list[tuple[int, Bytes]] = []  # (first byte, (n, bytes))

    def add(self, constant: bytes) -> None:
        """Append bytes that are the same in all."""
        self.template += constant

    def add_column(self, values: Array) -> None:
        """Append values (n,) or (n, bytes) that differ."""
        raw = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
        self.columns.append((len(self.template), raw))
        self.template += bytes(raw.shape[1])

    def message(self, kind: int) -> _Columns:
        """Return this as the message of an object header."""
        whole = _Columns(struct.pack("<BHB", kind, len(self.template), 0))
        whole.extend(self)
        return whole

    def extend(self, other: _Columns) -> None:
        """Append another one."""
        self.columns += [(len(self.template) + at, raw) for at, raw in other.columns]
        self.template += other.template

    def rows(self, count: int) -> Bytes:
        """Return the bytes, (count, length)."""
        rows = np.tile(np.frombuffer(self.template, np.uint8), (count, 1))
        for at, raw in self.columns:
            rows[:, at : at + raw.shape[1]] = raw
        return rows


def _object_headers(messages: Sequence[_Columns], count: int) -> Bytes:
    """Return object headers of version 2 with these messages, (count, bytes)."""
    body = _Columns()
    for message in messages:
        body.extend(message)
    whole = _Columns(b"OHDR\x02\x02" + struct.pack("<I", len(body.template)))  # no times
    whole.extend(body)
    rows = whole.rows(count)
    return np.concatenate([rows, _checksums(rows)], axis=1)


def _chunk_dim_bytes(array: _Stored) -> int:
    """Return the bytes that each dimension of a chunk takes; the library insists on the fewest."""
    largest = max(*array.shape, array.dtype.itemsize)
    return (largest.bit_length() + 7) // 8


def _dataset_headers(stored: Sequence[_Stored], dim_bytes: int, deflate: int) -> Bytes:
    """Return the headers of an array of some episodes: each is one filtered chunk."""
    first, count = stored[0], len(stored)
    rank, itemsize = len(first.shape), first.dtype.itemsize
    shapes = np.array([array.shape for array in stored], "<u8")  # (n, rank)
    space = _Columns(struct.pack("<4B", 2, rank, 0, 1))
    space.add_column(shapes)
    kind = _Columns(_encoded(first.dtype))
    fill = _Columns(b"\x03\x07")  # allocated as chunks are written, never filled
    # chunked, by a single filtered chunk; the size of a value is one more dimension
    layout = _Columns(struct.pack("<5B", 4, 2, 2, rank + 1, dim_bytes))
    narrow = shapes.view(np.uint8).reshape(count, rank, 8)[:, :, :dim_bytes]  # little-endian
    layout.add_column(narrow.reshape(count, -1))
    layout.add(itemsize.to_bytes(dim_bytes, "little") + b"\x01")
    layout.add_column(np.array([array.nbytes for array in stored], "<u8"))
    layout.add(struct.pack("<I", 0))  # no filter was skipped
    layout.add_column(np.array([array.offset for array in stored], "<u8"))
    filters = struct.pack("<HHHI", h5z.FILTER_SHUFFLE, 1, 1, itemsize)
    filters += struct.pack("<HHHI", h5z.FILTER_DEFLATE, 1, 1, deflate)
    pipeline = _Columns(struct.pack("<2B", 2, 2) + filters)
    messages = {
        _DATASPACE: space,
        _DATATYPE: kind,
        _FILL_VALUE: fill,
        _LAYOUT: layout,
        _FILTERS: pipeline,
    }
    return _object_headers([part.message(kind) for kind, part in messages.items()], count)


def _group_headers(links: Mapping[str, IntArray], attributes: Sequence[_Columns]) -> Bytes:
    """Return the headers of a group of all episodes, with links {name: addresses (episodes,)}."""
    messages = _group_messages()
    for name, addresses in sorted(links.items()):
        link = _Columns(struct.pack("<3B", 1, 0, len(name)) + name.encode())
        link.add_column(addresses.astype("<u8"))
        messages.append(link.message(_LINK))
    return _object_headers([*messages, *attributes], len(next(iter(links.values()))))


def _group_header(links: Mapping[str, int]) -> Bytes:
    """Return the header of one group with links {name: address}, (1, bytes)."""
    messages = _group_messages()
    for name, address in links.items():
        raw = struct.pack("<3B", 1, 0, len(name)) + name.encode() + struct.pack("<Q", address)
        messages.append(_Columns(raw).message(_LINK))
    return _object_headers([_Columns(b"".join(m.template for m in messages))], 1)


def _group_messages() -> list[_Columns]:
    """Return what makes a header a group: its links are in the header, neither in a heap nor in a tree."""
    info = struct.pack("<2BQQ", 0, 0, _UNDEFINED, _UNDEFINED)
    return [_Columns(info).message(_LINK_INFO), _Columns(b"\0\0").message(_GROUP_INFO)]


def _attribute(name: str, kind: np.dtype[np.generic], data: Bytes) -> _Columns:
    """Return the messages of a scalar attribute with values (episodes, bytes)."""
    encoded, space = _encoded(kind), struct.pack("<4B", 2, 0, 0, 0)
    raw = name.encode() + b"\0"
    message = _Columns(struct.pack("<2B3HB", 3, 0, len(raw), len(encoded), len(space), 0))
    message.add(raw + encoded + space)
    message.add_column(data)
    return message.message(_ATTRIBUTE)


def _encoded(kind: np.dtype[np.generic]) -> bytes:
    """Return the datatype message of a dtype; the library encodes it after two bytes of its own."""
    encoded: bytes = h5t.py_create(kind, logical=True).encode()[2:]
    if h5py.check_string_dtype(kind) is not None:  # in a file: length, address of the heap, index
        encoded = encoded[:4] + struct.pack("<I", 16) + encoded[8:]
    return encoded


def _superblock(root: int, end: int) -> bytes:
    """Return superblock 2: sizes of 8 bytes, no extension, end of the file, address of the root group."""
    raw = _SIGNATURE + struct.pack("<4B4Q", 2, 8, 8, 0, 0, _UNDEFINED, end, root)
    return raw + _checksums(np.frombuffer(raw, np.uint8)[None])[0].tobytes()


def _checksums(rows: Bytes) -> Bytes:
    """Return the checksum (n, 4) of each row of bytes: Bob Jenkins' lookup3, as HDF5 has it."""
    count, length = rows.shape
    padded = np.zeros((count, -(-length // 12) * 12), np.uint8)
    padded[:, :length] = rows
    words = padded.view("<u4").astype(np.uint64)  # (n, 3 * blocks)
    if count == 1:  # Python's integers are faster than arrays of one
        found = np.array([_lookup3(words[0].tolist(), length)], np.uint64)
    else:
        found = _lookup3(list(words.T), length)
    return found.astype("<u4").view(np.uint8).reshape(count, 4)


_MASK = 0xFFFFFFFF


def _lookup3(words: Sequence[Word], length: int) -> Word:
    """Return the hash of little-endian words, three to a block, whose last block is padded with zeros.

    Source: lookup3.c, Bob Jenkins, May 2006, public domain (`hashlittle`).
    """
    start = (0xDEADBEEF + length) & _MASK
    a = b = c = words[0] * 0 + start
    for i in range(0, len(words) - 3, 3):
        a, b, c = (a + words[i]) & _MASK, (b + words[i + 1]) & _MASK, (c + words[i + 2]) & _MASK
        a = ((a - c) & _MASK) ^ _rotated(c, 4)
        c = (c + b) & _MASK
        b = ((b - a) & _MASK) ^ _rotated(a, 6)
        a = (a + c) & _MASK
        c = ((c - b) & _MASK) ^ _rotated(b, 8)
        b = (b + a) & _MASK
        a = ((a - c) & _MASK) ^ _rotated(c, 16)
        c = (c + b) & _MASK
        b = ((b - a) & _MASK) ^ _rotated(a, 19)
        a = (a + c) & _MASK
        c = ((c - b) & _MASK) ^ _rotated(b, 4)
        b = (b + a) & _MASK
    a, b, c = (a + words[-3]) & _MASK, (b + words[-2]) & _MASK, (c + words[-1]) & _MASK
    c = ((c ^ b) - _rotated(b, 14)) & _MASK
    a = ((a ^ c) - _rotated(c, 11)) & _MASK
    b = ((b ^ a) - _rotated(a, 25)) & _MASK
    c = ((c ^ b) - _rotated(b, 16)) & _MASK
    a = ((a ^ c) - _rotated(c, 4)) & _MASK
    b = ((b ^ a) - _rotated(a, 14)) & _MASK
    return ((c ^ b) - _rotated(b, 24)) & _MASK


def _rotated(word: Word, bits: int) -> Word:
    """Return 32-bit words rotated to the left."""
    return ((word << bits) | (word >> (32 - bits))) & _MASK
