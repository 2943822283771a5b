"""The chunks of an array in an HDF5 file: where they lie, and unpacking them here instead of in HDF5.

HDF5 unpacks a gzipped chunk to wherever its bytes lead: a megabyte of them makes a gigabyte, whatever
size was declared. Here a chunk is unpacked to its declared size and not a byte further, and so every
gzipped array is read by this module. It is also the faster way to single frames: HDF5 takes longer to
find one than to unpack it, and does both under one lock for the whole process. An array whose chunks
hold whole rows needs it but once, to say where they lie (`find_chunks`); the rest is reading bytes at a
place and unpacking them, by several threads if wanted.
"""

from __future__ import annotations

import itertools
import math
import os
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from h5py import h5d, h5t, h5z
from numpy.typing import NDArray

FILTERS = {h5z.FILTER_SHUFFLE, h5z.FILTER_DEFLATE, h5z.FILTER_FLETCHER32}
"""What is undone here, in any order."""

_CHECKSUM_BYTES = 4
_SLACK = 64  # bytes that a gzip header and checksums add; noise grows by a thousandth besides
_FEW = 64  # chunks that are looked up one by one, and not by going through all


class ChunkError(ValueError):
    """A chunk is not what its file declares; the message ends a sentence that begins with its array."""


@dataclass(frozen=True)
class Layout:
    """How an array is cut into chunks, and what each went through.

    Attributes:
      shape: of a chunk; those at the end of an axis are stored whole too, their surplus means nothing.
      dtype: of the values as they are stored.
      filters: HDF5's codes, in the order in which they were applied.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    filters: tuple[int, ...] = ()

    @property
    def gzipped(self) -> bool:
        return h5z.FILTER_DEFLATE in self.filters

    @property
    def nbytes(self) -> int:
        """Of a chunk's values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def check_size(self, stored: int) -> None:
        """ChunkError if a chunk of `stored` bytes takes more of the file than its values can."""
        if stored > self.nbytes + self.nbytes // 1000 + _SLACK:
            raise ChunkError(f"has a chunk of {stored} bytes for {self.nbytes} bytes of values")

    def decode(self, raw: bytes, skipped: int = 0) -> NDArray[Any]:
        """The values (*shape) of a stored chunk in native byte order; not to be written to.

        Args:
          raw: the chunk as it is in the file.
          skipped: bit i is set where filter i was not applied to it.

        Raises:
          ChunkError: they are not a whole chunk.
        """
        for i, code in reversed(list(enumerate(self.filters))):
            if skipped >> i & 1:
                continue
            if code == h5z.FILTER_DEFLATE:
                raw = _inflate(raw, self.nbytes + _SLACK)
            elif code == h5z.FILTER_FLETCHER32:
                raw = raw[:-_CHECKSUM_BYTES]
            elif self.dtype.itemsize > 1 and len(raw) == self.nbytes:
                raw = np.frombuffer(raw, np.uint8).reshape(self.dtype.itemsize, -1).T.tobytes()
        if len(raw) != self.nbytes:
            raise ChunkError(f"cannot be decoded (a chunk does not hold its {self.nbytes} bytes)")
        values = np.frombuffer(raw, self.dtype).reshape(self.shape)
        return values.astype(self.dtype.newbyteorder("="), copy=False)


@dataclass(frozen=True)
class Chunks:
    """The chunks of an array along its first axis, in order; each holds `layout.shape[0]` whole rows.

    Attributes:
      offsets, sizes: (n,) int64, where each begins in the file, and its bytes there.
    """

    layout: Layout
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]


def layout_of(dataset: h5d.DatasetID) -> Layout | None:
    """The layout of a chunked dataset; None if it is not chunked, or has filters that only HDF5 undoes."""
    props = dataset.get_create_plist()
    if props.get_layout() != h5d.CHUNKED:
        return None
    filters = tuple(props.get_filter(i)[0] for i in range(props.get_nfilters()))
    return Layout(props.get_chunk(), dataset.dtype, filters) if set(filters) <= FILTERS else None


def read_rows(
    dataset: h5d.DatasetID, layout: Layout, start: int, out: NDArray[Any]
) -> NDArray[Any]:
    """Rows `start` to `start + len(out)` of a dataset, into `out`, which is in native byte order.

    Raises:
      ChunkError: a chunk is not what the file declares, or values are not stored as NumPy holds them.
    """
    if not _is_plain(dataset):
        raise ChunkError("is gzipped and does not hold plain numbers")
    stored, complete = _stored_chunks(dataset, layout, start, out.shape)
    if not complete:
        fill = np.zeros(1, out.dtype)
        dataset.get_create_plist().get_fill_value(fill)
        out[...] = fill[0]
    for info in stored:
        layout.check_size(info.size)
        skipped, raw = dataset.read_direct_chunk(info.chunk_offset)
        values = layout.decode(raw, skipped)
        corner = (info.chunk_offset[0] - start, *info.chunk_offset[1:])
        cut = tuple(slice(max(-at, 0), n - at) for at, n in zip(corner, out.shape, strict=True))
        values = values[cut]
        to = (slice(max(at, 0), max(at, 0) + n) for at, n in zip(corner, values.shape, strict=True))
        out[tuple(to)] = values
    return out


def _stored_chunks(
    dataset: h5d.DatasetID, layout: Layout, start: int, shape: tuple[int, ...]
) -> tuple[list[h5d.StoreInfo], bool]:
    """The chunks that hold some of the rows, and whether none of them is missing in the file."""
    first, stop = start - start % layout.shape[0], start + shape[0]
    corners = [range(first, stop, layout.shape[0])]
    corners += [range(0, n, step) for n, step in zip(shape[1:], layout.shape[1:], strict=True)]
    count = math.prod(map(len, corners))
    found: list[h5d.StoreInfo] = []
    if count <= _FEW:
        found += map(dataset.get_chunk_info_by_coord, itertools.product(*corners))
        found = [info for info in found if info.byte_offset is not None]
    else:  # whatever is declared, there are no more than are stored
        dataset.chunk_iter(found.append)
        found = [info for info in found if first <= info.chunk_offset[0] < stop]
    return found, len(found) == count


def find_chunks(dataset: h5d.DatasetID, file_size: int) -> Chunks | None:
    """The chunks of a dataset that `SafeFile` has let pass; None if only HDF5 can read it."""
    if not hasattr(os, "pread") or 0 in dataset.shape or not _is_plain(dataset):
        return None
    layout = layout_of(dataset)
    chunks = _contiguous(dataset) if layout is None else _chunked(dataset, layout)
    if chunks is None:
        return None
    offsets, sizes = chunks.offsets, chunks.sizes
    inside = (offsets > 0) & (sizes > 0) & (offsets <= file_size - sizes)
    return chunks if inside.all() else None


def _contiguous(dataset: h5d.DatasetID) -> Chunks | None:
    """Rows one after the other, each counted as a chunk."""
    kind, start = dataset.get_create_plist().get_layout(), dataset.get_offset()
    if kind != h5d.CONTIGUOUS or start is None:
        return None
    layout = Layout((1, *dataset.shape[1:]), dataset.dtype)
    rows = np.arange(dataset.shape[0], dtype=np.int64)
    return Chunks(layout, start + layout.nbytes * rows, np.full_like(rows, layout.nbytes))


def _chunked(dataset: h5d.DatasetID, layout: Layout) -> Chunks | None:
    length, *rest = dataset.shape
    rows = layout.shape[0]
    if layout.shape[1:] != tuple(rest):
        return None
    stored: list[h5d.StoreInfo] = []
    dataset.chunk_iter(stored.append)
    stored.sort(key=lambda info: info.chunk_offset[0])
    starts = [info.chunk_offset[0] for info in stored]
    if starts != list(range(0, length, rows)) or any(info.filter_mask for info in stored):
        return None  # some were never written, or are stored in a way of their own
    offsets = np.array([info.byte_offset for info in stored], np.int64)
    return Chunks(layout, offsets, np.array([info.size for info in stored], np.int64))


def _is_plain(dataset: h5d.DatasetID) -> bool:
    """Whether values are stored in the way in which NumPy holds them."""
    dtype = dataset.dtype
    return dtype.kind == "S" or bool(h5t.py_create(dtype, logical=True).equal(dataset.get_type()))


def _inflate(packed: bytes, most: int) -> bytes:
    """What `packed` holds, if that is not more than `most` bytes."""
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(packed, most + 1)
    except zlib.error as error:
        raise ChunkError("cannot be decoded (a chunk is not gzip)") from error
    if len(raw) > most or not stream.eof:
        raise ChunkError("cannot be decoded (a chunk is cut short or holds more than it declares)")
    return raw
