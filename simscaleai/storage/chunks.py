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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
from h5py import h5d, h5t, h5z
from numpy.typing import NDArray

FILTERS = {h5z.FILTER_SHUFFLE, h5z.FILTER_DEFLATE, h5z.FILTER_FLETCHER32}
"""What is undone here, in any order."""

_CHECKSUM_BYTES = 4
_SLACK = 64  # bytes that a gzip header and checksums add; noise grows by a thousandth besides
_FEW = 64  # chunks that are looked up one by one, and not by going through all
_CONTIGUOUS_BYTES = 2**16  # of an array that is not chunked, read at a time


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

    @cached_property
    def gzipped(self) -> bool:
        return h5z.FILTER_DEFLATE in self.filters

    @cached_property
    def row_nbytes(self) -> int:
        """Of one row's values."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Of a chunk's values."""
        return self.shape[0] * self.row_nbytes

    @cached_property
    def row(self) -> tuple[tuple[int, ...], np.dtype[Any], tuple[int, ...]]:
        """What arrays share whose chunks differ in their number of rows alone."""
        return self.shape[1:], self.dtype, self.filters

    @cached_property
    def _undo(self) -> list[tuple[int, int]]:
        """(bit in the filter mask, code) in the order in which filters are undone."""
        return list(reversed(list(enumerate(self.filters))))

    @cached_property
    def _native(self) -> np.dtype[Any]:
        return self.dtype.newbyteorder("=")

    def check_size(self, stored: int) -> None:
        """ChunkError if a chunk of `stored` bytes takes more of the file than its values can."""
        self.check_sizes(np.array([stored]), np.array(self.shape[:1]))

    def check_sizes(self, sizes: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """The same for many chunks, of different numbers of rows."""
        nbytes = rows * self.row_nbytes
        for i in np.flatnonzero(sizes > nbytes + nbytes // 1000 + _SLACK)[:1]:
            raise ChunkError(f"has a chunk of {sizes[i]} bytes for {nbytes[i]} bytes of values")

    def decode(self, raw: bytes, skipped: int = 0, rows: int | None = None) -> NDArray[Any]:
        """The values of a stored chunk in native byte order; not to be written to.

        Args:
          raw: the chunk as it is in the file.
          skipped: bit i is set where filter i was not applied to it.
          rows: that it holds, where they are not `shape[0]`.

        Returns:
          (rows, *shape[1:]).

        Raises:
          ChunkError: they are not a whole chunk.
        """
        rows = self.shape[0] if rows is None else rows
        nbytes, itemsize = rows * self.row_nbytes, self.dtype.itemsize
        for i, code in self._undo:
            if skipped >> i & 1:
                continue
            if code == h5z.FILTER_DEFLATE:
                raw = _inflate(raw, nbytes + _SLACK)
            elif code == h5z.FILTER_FLETCHER32:
                raw = raw[:-_CHECKSUM_BYTES]
            elif itemsize > 1 and len(raw) == nbytes:
                raw = np.frombuffer(raw, np.uint8).reshape(itemsize, -1).T.tobytes()
        if len(raw) != nbytes:
            raise ChunkError(f"cannot be decoded (a chunk does not hold its {nbytes} bytes)")
        values = np.frombuffer(raw, self.dtype).reshape(rows, *self.shape[1:])
        return values.astype(self._native, copy=False)


@dataclass(frozen=True)
class Chunks:
    """Chunks of whole rows, in order, that together hold an array, or several arrays one after the other.

    Attributes:
      layout: of the values; its number of rows is that of the first chunk.
      offsets, sizes: (n,) int64, where each begins in the file, and its bytes there.
      rows: (n,) int64, how many each holds; those beyond `starts` of the next one mean nothing.
      starts: (n,) int64, which row is the first of each.
    """

    layout: Layout
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]

    def same_as(self, other: Chunks) -> bool:
        """Whether the same rows lie in the same places."""
        names = ("offsets", "sizes", "rows", "starts")
        return self.layout.row == other.layout.row and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in names
        )


def join(parts: Sequence[Chunks], starts: Sequence[int]) -> Chunks | None:
    """The chunks of arrays that lie one after the other, each from a row of `starts`; None if they differ."""
    if not parts or any(part.layout.row != parts[0].layout.row for part in parts):
        return None
    shifted = [replace(p, starts=p.starts + start) for p, start in zip(parts, starts, strict=True)]
    columns = (
        np.concatenate([getattr(part, name) for part in shifted])
        for name in ("offsets", "sizes", "rows", "starts")
    )
    return Chunks(parts[0].layout, *columns)


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
    chunks = _contiguous(dataset) if layout is None else stored_chunks(dataset, layout)
    if chunks is None:
        return None
    offsets, sizes = chunks.offsets, chunks.sizes
    inside = (offsets > 0) & (sizes > 0) & (offsets <= file_size - sizes)
    return chunks if inside.all() else None


def _contiguous(dataset: h5d.DatasetID) -> Chunks | None:
    """An array that is not chunked, a number of rows at a time."""
    kind, start = dataset.get_create_plist().get_layout(), dataset.get_offset()
    if kind != h5d.CONTIGUOUS or start is None:
        return None
    length, *rest = dataset.shape
    row = Layout((1, *rest), dataset.dtype).row_nbytes
    step = max(1, min(length, _CONTIGUOUS_BYTES // row))
    starts = np.arange(0, length, step, dtype=np.int64)
    rows = np.minimum(step, length - starts)
    layout = Layout((step, *rest), dataset.dtype)
    return Chunks(layout, start + row * starts, row * rows, rows, starts)


def stored_chunks(dataset: h5d.DatasetID, layout: Layout) -> Chunks | None:
    """The chunks of a dataset of this layout; None unless all are whole rows and went through all filters."""
    length, *rest = dataset.shape
    rows = layout.shape[0]
    if layout.shape[1:] != tuple(rest):
        return None
    stored: list[h5d.StoreInfo] = []
    if rows >= length:
        stored.append(dataset.get_chunk_info_by_coord((0,) * dataset.rank))
        if stored[0].byte_offset is None:
            return None
    else:
        dataset.chunk_iter(stored.append)
        stored.sort(key=lambda info: info.chunk_offset[0])
    starts = [info.chunk_offset[0] for info in stored]
    if starts != list(range(0, length, rows)) or any(info.filter_mask for info in stored):
        return None  # some were never written, or are stored in a way of their own
    offsets = np.array([info.byte_offset for info in stored], np.int64)
    sizes = np.array([info.size for info in stored], np.int64)
    return Chunks(layout, offsets, sizes, np.full_like(sizes, rows), np.array(starts, np.int64))


def _is_plain(dataset: h5d.DatasetID) -> bool:
    """Whether values are stored in the way in which NumPy holds them."""
    dtype = dataset.dtype
    return dtype.kind == "S" or bool(_type_of(dtype).equal(dataset.get_type()))


@cache
def _type_of(dtype: np.dtype[Any]) -> h5t.TypeID:
    return h5t.py_create(dtype, logical=True)


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
