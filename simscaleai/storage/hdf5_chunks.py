"""Chunks of HDF5 arrays: locate them in the file, and decompress them here instead of in HDF5.

HDF5 decompresses a gzipped chunk without a limit: a megabyte can become a gigabyte (a decompression
bomb), whatever size was declared. This module stops at the declared size, and therefore reads every
gzipped array. It is also faster for single frames: HDF5 takes longer to locate a chunk than to decompress
it, and does both under a lock of the whole process. If the chunks of an array consist of whole steps,
HDF5 is asked once for their locations (`find_chunks`); after that, threads read and decompress them
independently.
"""

from __future__ import annotations

import itertools
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
from h5py import h5d, h5t, h5z

from simscaleai.array_types import Array, IntArray

FILTERS = {h5z.FILTER_SHUFFLE, h5z.FILTER_DEFLATE, h5z.FILTER_FLETCHER32}
"""Filters that this module can undo, in any order."""

_CHECKSUM_BYTES = 4
_SLACK = 64  # bytes that a gzip header and checksums add; incompressible data grow by 0.1 % as well
_FEW = 64  # chunks; up to this number they are looked up one by one, more by iterating over all
_CONTIGUOUS_BYTES = 2**16  # read at once from an array that is not chunked


class ChunkError(ValueError):
    """A chunk differs from the file's declaration; the message continues a sentence about its array."""


@dataclass(frozen=True)
class Layout:
    """Shape, dtype and filters of the chunks of an array.

    Attributes:
      shape: shape of a chunk, (steps, ...). Chunks at the end of an axis are padded to this shape.
      dtype: dtype of the stored values.
      filters: HDF5's filter codes, in the order of application.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    filters: tuple[int, ...] = ()

    @cached_property
    def gzipped(self) -> bool:
        return h5z.FILTER_DEFLATE in self.filters

    @cached_property
    def step_nbytes(self) -> int:
        """Number of bytes of the values of one step."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Number of bytes of the values of a chunk."""
        return self.shape[0] * self.step_nbytes

    @cached_property
    def step_layout(self) -> tuple[tuple[int, ...], np.dtype[np.generic], tuple[int, ...]]:
        """Shape and dtype of a step, and filters: everything except the number of steps of a chunk."""
        return self.shape[1:], self.dtype, self.filters

    @cached_property
    def _undo(self) -> list[tuple[int, int]]:
        """(bit in the filter mask, code) in the order in which filters are undone."""
        return list(reversed(list(enumerate(self.filters))))

    @cached_property
    def _native(self) -> np.dtype[np.generic]:
        return self.dtype.newbyteorder("=")

    def check_size(self, stored: int) -> None:
        """Raise ChunkError if a chunk of `stored` bytes is larger in the file than its values."""
        self.check_sizes(np.array([stored]), np.array(self.shape[:1]))

    def check_sizes(self, sizes: IntArray, steps: IntArray) -> None:
        """Do the same for many chunks, with different numbers of steps."""
        nbytes = steps * self.step_nbytes
        for i in np.flatnonzero(sizes > nbytes + nbytes // 1000 + _SLACK)[:1]:
            raise ChunkError(f"has a chunk of {sizes[i]} bytes for {nbytes[i]} bytes of values")

    def decode(self, raw: bytes | memoryview, skipped: int = 0, steps: int | None = None) -> Array:
        """Return the values of a stored chunk in native byte order, read-only.

        Args:
          raw: the bytes of the chunk in the file.
          skipped: filter mask; bit i is set if filter i was not applied.
          steps: number of steps in the chunk; by default `shape[0]`.

        Returns:
          (steps, *shape[1:]).

        Raises:
          ChunkError: the bytes are not one complete chunk.
        """
        steps = self.shape[0] if steps is None else steps
        nbytes, itemsize = steps * self.step_nbytes, self.dtype.itemsize
        for i, code in self._undo:
            if skipped >> i & 1:
                continue
            if code == h5z.FILTER_DEFLATE:
                raw = _inflate(raw, nbytes + _SLACK)
            elif code == h5z.FILTER_FLETCHER32:
                raw = raw[:-_CHECKSUM_BYTES]  # not verified: zlib verifies a checksum of its own
            elif itemsize > 1 and len(raw) == nbytes:
                # shuffled: the first bytes of all values, then the second bytes, ...
                raw = np.frombuffer(raw, np.uint8).reshape(itemsize, -1).T.tobytes()
        if len(raw) != nbytes:
            raise ChunkError(f"cannot be decoded (a chunk does not hold its {nbytes} bytes)")
        values = np.frombuffer(raw, self.dtype).reshape(steps, *self.shape[1:])
        return values.astype(self._native, copy=False)


@dataclass(frozen=True)
class Chunks:
    """Chunks of whole steps, in order, of one array or of several consecutive arrays.

    Attributes:
      layout: layout of the values; `layout.shape[0]` is the number of steps of the first chunk.
      offsets, sizes: (n,) int64, first byte in the file and number of bytes of each chunk.
      steps: (n,) int64, number of steps in each chunk; those beyond `starts` of the next chunk are padding.
      starts: (n,) int64, first step of each chunk.
    """

    layout: Layout
    offsets: IntArray
    sizes: IntArray
    steps: IntArray
    starts: IntArray

    def same_as(self, other: Chunks) -> bool:
        """Return whether both describe the same steps at the same locations of the file."""
        names = ("offsets", "sizes", "steps", "starts")
        return self.layout.step_layout == other.layout.step_layout and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in names
        )


def join(parts: Sequence[Chunks], starts: Sequence[int]) -> Chunks | None:
    """Concatenate the chunks of arrays, each shifted to a step of `starts`; None if their layouts differ."""
    if not parts or any(part.layout.step_layout != parts[0].layout.step_layout for part in parts):
        return None
    shifted = [replace(p, starts=p.starts + start) for p, start in zip(parts, starts, strict=True)]
    columns = (
        np.concatenate([getattr(part, name) for part in shifted])
        for name in ("offsets", "sizes", "steps", "starts")
    )
    return Chunks(parts[0].layout, *columns)


def layout_of(dataset: h5d.DatasetID) -> Layout | None:
    """Return the layout of a dataset; None if it is not chunked, or has filters that only HDF5 undoes."""
    props = dataset.get_create_plist()
    if props.get_layout() != h5d.CHUNKED:
        return None
    filters = tuple(
        props.get_filter(i)[0] for i in range(props.get_nfilters())
    )  # first is the code
    return Layout(props.get_chunk(), dataset.dtype, filters) if set(filters) <= FILTERS else None


def read_steps(dataset: h5d.DatasetID, layout: Layout, start: int, out: Array) -> Array:
    """Read steps `start` to `start + len(out)` of a dataset into `out`, which has native byte order.

    Raises:
      ChunkError: a chunk differs from the declaration, or the values are not stored as NumPy stores them.
    """
    if not _is_plain(dataset):
        raise ChunkError("is gzipped and does not hold plain numbers")
    stored, complete = _stored_chunks(dataset, layout, start, out.shape)
    if not complete:  # chunks that were never written have the fill value
        fill = np.zeros(1, out.dtype)
        dataset.get_create_plist().get_fill_value(fill)
        out[...] = fill[0]
    for info in stored:
        layout.check_size(info.size)
        skipped, raw = dataset.read_direct_chunk(info.chunk_offset)
        values = layout.decode(raw, skipped)
        # first entry of the chunk in `out`; parts of the chunk may lie outside, on either side
        corner = (info.chunk_offset[0] - start, *info.chunk_offset[1:])
        cut = tuple(slice(max(-at, 0), n - at) for at, n in zip(corner, out.shape, strict=True))
        values = values[cut]
        to = (slice(max(at, 0), max(at, 0) + n) for at, n in zip(corner, values.shape, strict=True))
        out[tuple(to)] = values
    return out


def _stored_chunks(
    dataset: h5d.DatasetID, layout: Layout, start: int, shape: tuple[int, ...]
) -> tuple[list[h5d.StoreInfo], bool]:
    """Return the chunks of these steps, and whether all of them are in the file."""
    first, stop = start - start % layout.shape[0], start + shape[0]
    corners = [range(first, stop, layout.shape[0])]
    corners += [range(0, n, step) for n, step in zip(shape[1:], layout.shape[1:], strict=True)]
    count = math.prod(map(len, corners))
    found: list[h5d.StoreInfo] = []
    if count <= _FEW:
        found += map(dataset.get_chunk_info_by_coord, itertools.product(*corners))
        found = [info for info in found if info.byte_offset is not None]
    else:  # a declared shape may imply billions of chunks; iterate over the stored ones
        dataset.chunk_iter(found.append)
        found = [info for info in found if first <= info.chunk_offset[0] < stop]
    return found, len(found) == count


def find_chunks(dataset: h5d.DatasetID, file_size: int) -> Chunks | None:
    """Return the chunks of a dataset that `SafeFile` has checked; None if only HDF5 can read it."""
    if not hasattr(os, "pread") or 0 in dataset.shape or not _is_plain(dataset):
        return None
    layout = layout_of(dataset)
    chunks = _contiguous(dataset) if layout is None else stored_chunks(dataset, layout)
    if chunks is None:
        return None
    offsets, sizes = chunks.offsets, chunks.sizes
    # written so that a huge size cannot overflow
    inside = (offsets > 0) & (sizes > 0) & (offsets <= file_size - sizes)
    return chunks if inside.all() else None


def _contiguous(dataset: h5d.DatasetID) -> Chunks | None:
    """Describe an array that is not chunked as chunks of up to `_CONTIGUOUS_BYTES`."""
    kind, start = dataset.get_create_plist().get_layout(), dataset.get_offset()
    if kind != h5d.CONTIGUOUS or start is None:
        return None
    length, *rest = dataset.shape
    step_nbytes = Layout((1, *rest), dataset.dtype).step_nbytes
    size = max(1, min(length, _CONTIGUOUS_BYTES // step_nbytes))  # steps of a chunk
    starts = np.arange(0, length, size, dtype=np.int64)
    steps = np.minimum(size, length - starts)
    layout = Layout((size, *rest), dataset.dtype)
    return Chunks(layout, start + step_nbytes * starts, step_nbytes * steps, steps, starts)


def stored_chunks(dataset: h5d.DatasetID, layout: Layout) -> Chunks | None:
    """Return the chunks of a dataset; None unless all hold whole steps and passed all filters."""
    length, *rest = dataset.shape
    steps = layout.shape[0]
    if layout.shape[1:] != tuple(rest):
        return None
    stored: list[h5d.StoreInfo] = []
    if steps >= length:
        stored.append(dataset.get_chunk_info_by_coord((0,) * dataset.rank))
        if stored[0].byte_offset is None:
            return None
    else:
        dataset.chunk_iter(stored.append)
        stored.sort(key=lambda info: info.chunk_offset[0])
    starts = [info.chunk_offset[0] for info in stored]
    if starts != list(range(0, length, steps)) or any(info.filter_mask for info in stored):
        return None  # a chunk was never written, or a filter was skipped
    offsets = np.array([info.byte_offset for info in stored], np.int64)
    sizes = np.array([info.size for info in stored], np.int64)
    return Chunks(layout, offsets, sizes, np.full_like(sizes, steps), np.array(starts, np.int64))


def _is_plain(dataset: h5d.DatasetID) -> bool:
    """Return whether values are stored as NumPy stores them."""
    dtype = dataset.dtype
    return dtype.kind == "S" or bool(_type_of(dtype).equal(dataset.get_type()))


@cache  # it takes longer than to read a chunk
def _type_of(dtype: np.dtype[np.generic]) -> h5t.TypeID:
    return h5t.py_create(dtype, logical=True)


def _inflate(packed: bytes | memoryview, most: int) -> bytes:
    """Decompress `packed`; ChunkError if the result has more than `most` bytes."""
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(packed, most + 1)
    except zlib.error as error:
        raise ChunkError("cannot be decoded (a chunk is not gzip)") from error
    if len(raw) > most or not stream.eof:
        raise ChunkError("cannot be decoded (a chunk is cut short or holds more than it declares)")
    return raw
