"""The index of a file in the file itself, with a checksum that tells whether it is up to date."""

from __future__ import annotations

import itertools
import os
import zlib

import numpy as np

from simscaleai.storage.index import NO_TABLE, Index

_MAGIC = b"episodes index 1"
_BLOCK = 2**22  # bytes read at a time
_NEAR = 2**14  # two gaps that are at most so many bytes apart are read at once


def seal(path: str | os.PathLike[str], index: Index, place: int) -> None:
    """Write a table into a closed file, at the byte `place`, where `sealed_size` bytes are reserved."""
    raw = index.encode()
    with open(path, "r+b") as file:
        own = (place, sealed_size(index))
        checksum = _checksum(file.fileno(), os.fstat(file.fileno()).st_size, index, own)
        file.seek(place)
        file.write(_MAGIC + checksum.to_bytes(8, "little") + raw)


def sealed_size(index: Index) -> int:
    """Return the number of bytes that `seal` writes."""
    return len(_MAGIC) + 8 + len(index.encode())


def unseal(file: int, raw: bytes, place: int) -> Index | None:
    """Parse the table `raw`, read at the byte `place` of an open file.

    None if it is damaged or out of date.
    """
    size = os.fstat(file).st_size
    start = len(_MAGIC) + 8
    if raw[: len(_MAGIC)] != _MAGIC:
        return None
    try:
        index = Index.decode(raw[start:], size)
    except NO_TABLE:
        return None
    stated = int.from_bytes(raw[len(_MAGIC) : start], "little")
    return index if _checksum(file, size, index, (place, len(raw))) == stated else None


def _checksum(file: int, size: int, index: Index, own: tuple[int, int]) -> int:
    """Return the checksum of all bytes outside of chunks and of the table, `own` = (start, length)."""
    columns = index.columns.values()
    starts = np.concatenate([[own[0]], *(c.offsets for c in columns)])
    stops = starts + np.concatenate([[own[1]], *(c.sizes for c in columns)])
    # Merge the covered intervals; the gaps between them are what is summed.
    order = np.argsort(starts, kind="stable")
    starts, stops = np.append(starts[order], size), np.append(0, stops[order])
    stops = np.maximum.accumulate(stops)
    gaps = np.flatnonzero(starts > stops)
    begins, ends = stops[gaps], starts[gaps]
    # thousands of small gaps lie close together, between chunks; one read covers many of them
    breaks = np.flatnonzero(begins[1:] - ends[:-1] > _NEAR) + 1
    checksum = 0
    for first, last in itertools.pairwise([0, *breaks.tolist(), len(gaps)]):
        place, block = 0, memoryview(b"")
        for begin, end in zip(begins[first:last].tolist(), ends[first:last].tolist(), strict=True):
            while begin < end:
                if not place <= begin < place + len(block):
                    want = min(_BLOCK, int(ends[last - 1]) - begin)
                    place, block = begin, memoryview(os.pread(file, want, begin))
                    if not block:  # the file is shorter than it was; no checksum is negative
                        return -1
                data = block[begin - place : end - place]
                checksum = zlib.crc32(data, checksum)
                begin += len(data)
    return checksum
