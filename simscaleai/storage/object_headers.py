"""Object headers, messages and the superblock of an HDF5 file, as bytes; see `raw_hdf5`."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import h5py
import numpy as np
from h5py import h5t, h5z

from simscaleai.array_types import IntArray
from simscaleai.storage.header_columns import Bytes, HeaderColumns
from simscaleai.storage.lookup3 import lookup3_checksums

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_UNDEFINED = 2**64 - 1
# message types of the specification, section IV.A.2
_DATASPACE, _LINK_INFO, _DATATYPE, _FILL_VALUE = 0x01, 0x02, 0x03, 0x05
_LINK, _LAYOUT, _GROUP_INFO, _FILTERS, _ATTRIBUTE = 0x06, 0x08, 0x0A, 0x0B, 0x0C


class StoredChunk(NamedTuple):
    """Where the chunk of an array is in the file."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    offset: int
    nbytes: int


def _object_headers(messages: Sequence[HeaderColumns], count: int) -> Bytes:
    """Return object headers of version 2 with these messages, (count, bytes)."""
    body = HeaderColumns()
    for message in messages:
        body.extend(message)
    whole = HeaderColumns(b"OHDR\x02\x02" + struct.pack("<I", len(body.template)))  # no times
    whole.extend(body)
    rows = whole.rows(count)
    return np.concatenate([rows, lookup3_checksums(rows)], axis=1)


def chunk_dim_bytes(array: StoredChunk) -> int:
    """Return the bytes that each dimension of a chunk takes; the library insists on the fewest."""
    largest = max(*array.shape, array.dtype.itemsize)
    return (largest.bit_length() + 7) // 8


def dataset_headers(stored: Sequence[StoredChunk], dim_bytes: int, deflate: int) -> Bytes:
    """Return the headers of an array of some episodes: each is one filtered chunk."""
    first, count = stored[0], len(stored)
    rank, itemsize = len(first.shape), first.dtype.itemsize
    shapes = np.array([array.shape for array in stored], "<u8")  # (n, rank)
    space = HeaderColumns(struct.pack("<4B", 2, rank, 0, 1))
    space.add_column(shapes)
    kind = HeaderColumns(_encoded(first.dtype))
    fill = HeaderColumns(b"\x03\x07")  # allocated as chunks are written, never filled
    # chunked, by a single filtered chunk; the size of a value is one more dimension
    layout = HeaderColumns(struct.pack("<5B", 4, 2, 2, rank + 1, dim_bytes))
    narrow = shapes.view(np.uint8).reshape(count, rank, 8)[:, :, :dim_bytes]  # little-endian
    layout.add_column(narrow.reshape(count, -1))
    layout.add(itemsize.to_bytes(dim_bytes, "little") + b"\x01")
    layout.add_column(np.array([array.nbytes for array in stored], "<u8"))
    layout.add(struct.pack("<I", 0))  # no filter was skipped
    layout.add_column(np.array([array.offset for array in stored], "<u8"))
    filters = struct.pack("<HHHI", h5z.FILTER_SHUFFLE, 1, 1, itemsize)
    filters += struct.pack("<HHHI", h5z.FILTER_DEFLATE, 1, 1, deflate)
    pipeline = HeaderColumns(struct.pack("<2B", 2, 2) + filters)
    messages = {
        _DATASPACE: space,
        _DATATYPE: kind,
        _FILL_VALUE: fill,
        _LAYOUT: layout,
        _FILTERS: pipeline,
    }
    return _object_headers([part.message(kind) for kind, part in messages.items()], count)


def group_headers(links: Mapping[str, IntArray], attributes: Sequence[HeaderColumns]) -> Bytes:
    """Return the headers of a group of all episodes, with links {name: addresses (episodes,)}."""
    messages = _group_messages()
    for name, addresses in sorted(links.items()):
        link = HeaderColumns(struct.pack("<3B", 1, 0, len(name)) + name.encode())
        link.add_column(addresses.astype("<u8"))
        messages.append(link.message(_LINK))
    return _object_headers([*messages, *attributes], len(next(iter(links.values()))))


def group_header(links: Mapping[str, int]) -> Bytes:
    """Return the header of one group with links {name: address}, (1, bytes)."""
    messages = _group_messages()
    for name, address in links.items():
        raw = struct.pack("<3B", 1, 0, len(name)) + name.encode() + struct.pack("<Q", address)
        messages.append(HeaderColumns(raw).message(_LINK))
    return _object_headers([HeaderColumns(b"".join(m.template for m in messages))], 1)


def _group_messages() -> list[HeaderColumns]:
    """Return what makes a header a group: its links are in the header, neither in a heap nor in a tree."""
    info = struct.pack("<2BQQ", 0, 0, _UNDEFINED, _UNDEFINED)
    return [HeaderColumns(info).message(_LINK_INFO), HeaderColumns(b"\0\0").message(_GROUP_INFO)]


def attribute_message(name: str, kind: np.dtype[np.generic], data: Bytes) -> HeaderColumns:
    """Return the messages of a scalar attribute with values (episodes, bytes)."""
    encoded, space = _encoded(kind), struct.pack("<4B", 2, 0, 0, 0)
    raw = name.encode() + b"\0"
    message = HeaderColumns(struct.pack("<2B3HB", 3, 0, len(raw), len(encoded), len(space), 0))
    message.add(raw + encoded + space)
    message.add_column(data)
    return message.message(_ATTRIBUTE)


def _encoded(kind: np.dtype[np.generic]) -> bytes:
    """Return the datatype message of a dtype; the library encodes it after two bytes of its own."""
    encoded: bytes = h5t.py_create(kind, logical=True).encode()[2:]
    if h5py.check_string_dtype(kind) is not None:  # in a file: length, address of the heap, index
        encoded = encoded[:4] + struct.pack("<I", 16) + encoded[8:]
    return encoded


def superblock(root: int, end: int) -> bytes:
    """Return superblock 2: sizes of 8 bytes, no extension, end of the file, address of the root group."""
    raw = _SIGNATURE + struct.pack("<4B4Q", 2, 8, 8, 0, 0, _UNDEFINED, end, root)
    return raw + lookup3_checksums(np.frombuffer(raw, np.uint8)[None])[0].tobytes()
