"""Rows of one array of many episodes, numbered through, in any order.

    with open_dataset("data/reach.h5") as data:
        frames = RowReader(data, data.split("train"), "obs/image")
    frames.read(np.array([7, 100_000, 8]))      # (3, H, W, C)

A reader outlives the file it was made from, and may be sent to other processes: each opens the file for
itself when it first reads. It reads chunks past HDF5 where their layout allows it (see `chunks`), and
each chunk once in a call, however many of its rows are asked for.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError
from simscaleai.storage.chunks import ChunkError, Chunks
from simscaleai.storage.episodes import EpisodeFile, open_dataset

_SPAN_BYTES = 2**22  # read by a thread at a time


class RowReader:
    """The array `key` of `episodes`, one after the other.

    Args:
      data: an open file; it may be closed afterwards.
      episodes: positions in `data.episodes`.
      key: "obs/image", "actions", ...
      columns: of `data.columns` for these episodes, to look once for the chunks of several arrays.

    Attributes:
      shape, dtype: of one row; the same in all episodes.
      direct: whether chunks are read past HDF5.

    Raises:
      UserError: rows differ from one episode to another, or the array fails a check.
    """

    def __init__(
        self,
        data: EpisodeFile,
        episodes: Sequence[int],
        key: str,
        columns: Mapping[str, Chunks | None] | None = None,
    ) -> None:
        self.path, self.key, self._images = data.path, key, data.images
        self.episodes = [i for i in episodes if data.episodes[i].length]
        episodes = self.episodes
        self._names = [data.episodes[i].name for i in episodes]
        self._starts = np.cumsum([0, *(data.episodes[i].length for i in episodes)])
        columns = data.columns(episodes, [key]) if columns is None else columns
        self._chunks = self._checked(columns[key])
        self.shape, self.dtype = self._common_rows(data)
        self._identity = _identity(os.stat(data.path))
        self._raw: FileIO | None = None
        self._hdf5: tuple[int, EpisodeFile] | None = None

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def nbytes(self) -> int:
        """Of all rows in memory."""
        return len(self) * math.prod(self.shape) * self.dtype.itemsize

    @property
    def direct(self) -> bool:
        return self._chunks is not None

    def read(self, rows: NDArray[np.int64], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The given rows, (B, ...) in native byte order; into `out` where it is given.

        Raises:
          UserError: the file has changed since the reader was made, or cannot be decoded.
        """
        if out is None:
            out = np.empty((len(rows), *self.shape), self.dtype)
        if self._chunks is None:
            self._read_by_hdf5(rows, out)
        else:
            self._read_chunks(self._chunks, rows, out)
        return out

    def read_all(self, threads: int = 1) -> NDArray[Any]:
        """Every row, (N, ...), read in the order of the file."""
        out = np.empty((len(self), *self.shape), self.dtype)
        chunks = self._chunks
        count = len(self) if chunks is None else len(chunks.offsets)
        step = max(1, _SPAN_BYTES * count // max(self.nbytes, 1))
        starts = range(0, count, step)

        def fill(first: int) -> None:
            which = slice(first, first + step)
            if chunks is None:
                self._read_by_hdf5(np.arange(len(self))[which], out[which])
            else:
                self._read_whole_chunks(chunks, which, out)

        if chunks is not None:
            self._descriptor()  # not by each thread at once
        if threads < 2 or chunks is None:  # HDF5 lets one thread in
            for start in starts:
                fill(start)
            return out
        pool = ThreadPoolExecutor(threads)
        try:
            for _ in pool.map(fill, starts):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
        return out

    def close(self) -> None:
        """Close what this process has open of the file; it is opened again when it is read."""
        if self._raw is not None:
            self._raw.close()
        if self._hdf5 is not None and self._hdf5[0] == os.getpid():
            self._hdf5[1].close()
        self._raw = self._hdf5 = None

    def _read_chunks(self, chunks: Chunks, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """The given rows; each chunk once."""
        file, decode = self._descriptor(), chunks.layout.decode
        wanted = np.searchsorted(chunks.starts, rows, "right") - 1
        in_chunk = rows - chunks.starts[wanted]
        offsets, sizes, held = (
            column[wanted].tolist() for column in (chunks.offsets, chunks.sizes, chunks.rows)
        )
        previous = -1
        for i in np.argsort(wanted, kind="stable").tolist():
            if wanted[i] != previous:
                try:
                    values = decode(os.pread(file, sizes[i], offsets[i]), rows=held[i])
                except ChunkError as error:
                    raise self._refuse(error, rows[i]) from error
                previous = wanted[i]
            out[i] = values[in_chunk[i]]

    def _read_whole_chunks(self, chunks: Chunks, which: slice, out: NDArray[Any]) -> None:
        """All rows of the chunks `which`, to where they belong in `out`."""
        file, decode = self._descriptor(), chunks.layout.decode
        stops = np.append(chunks.starts[1:], len(self))[which].tolist()
        columns = (chunks.offsets, chunks.sizes, chunks.rows, chunks.starts)
        offsets, sizes, held, starts = (column[which].tolist() for column in columns)
        for offset, size, rows, start, stop in zip(
            offsets, sizes, held, starts, stops, strict=True
        ):
            try:
                values = decode(os.pread(file, size, offset), rows=rows)
            except ChunkError as error:
                raise self._refuse(error, start) from error
            out[start:stop] = values[: stop - start]

    def _refuse(self, error: ChunkError, row: int) -> UserError:
        """The error for a chunk that holds the given row."""
        episode = int(np.searchsorted(self._starts, row, "right")) - 1
        step = row - self._starts[episode]
        return UserError(
            f"{self.path}: {self.key!r} of {self._names[episode]}, step {step} {error};"
            " the file is refused."
        )

    def _read_by_hdf5(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Neighbouring rows of an episode at once."""
        data = self._episode_file()
        order = np.argsort(rows, kind="stable")
        for run in self._runs(rows[order]):
            first, last = rows[order[run.start]], rows[order[run.stop - 1]]
            episode = int(np.searchsorted(self._starts, first, "right")) - 1
            start = int(first - self._starts[episode])
            stop = start + int(last - first) + 1
            values = data.read(self.episodes[episode], self.key, start, stop)
            out[order[run]] = values[rows[order[run]] - first]

    def _runs(self, rows: NDArray[np.int64]) -> Iterator[slice]:
        """Slices of sorted `rows` in which each is the one before or its successor, in one episode."""
        gaps = np.diff(rows) > 1
        episodes = np.diff(np.searchsorted(self._starts, rows, "right")) > 0
        cuts = [0, *(np.flatnonzero(gaps | episodes) + 1).tolist(), len(rows)]
        return (slice(a, b) for a, b in itertools.pairwise(cuts) if a < b)

    def _descriptor(self) -> int:
        """The file as bytes; reads at a position, so that threads and forked processes can share it."""
        if self._raw is None:
            raw = FileIO(self.path)
            if _identity(os.fstat(raw.fileno())) != self._identity:
                raise UserError(f"{self.path} has changed while it was in use; start again.")
            self._raw = raw
        return self._raw.fileno()

    def _episode_file(self) -> EpisodeFile:
        """The file through HDF5, of this process: one inherited from another must not be read."""
        if self._hdf5 is None or self._hdf5[0] != os.getpid():
            self._hdf5 = (os.getpid(), open_dataset(self.path, self._images))
        return self._hdf5[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_raw": None, "_hdf5": None}

    def _checked(self, chunks: Chunks | None) -> Chunks | None:
        """UserError for chunks that take more of the file than their values can."""
        if chunks is not None:
            try:
                chunks.layout.check_sizes(chunks.sizes, chunks.rows)
            except ChunkError as error:
                raise UserError(
                    f"{self.path}: {self.key!r} {error}; the file is refused."
                ) from error
        return chunks

    def _common_rows(self, data: EpisodeFile) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and dtype of a row; UserError where episodes differ."""
        if self._chunks is not None:
            layout = self._chunks.layout
            return layout.shape[1:], layout.dtype.newbyteorder("=")
        rows = [
            (data.shape(i, self.key)[1:], data.dtype(i, self.key))
            for i in self.episodes or [data.example]
        ]
        for i, row in zip(self.episodes, rows, strict=False):
            if row != rows[0]:
                raise UserError(
                    f"{data.path}: {self.key!r} of {data.episodes[i].name} has rows of {row[0]}"
                    f" {row[1]}, and the first episode of {rows[0][0]} {rows[0][1]}; validate the file."
                )
        return rows[0]


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
