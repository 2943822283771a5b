"""Read steps of one array of many episodes in any order; steps are numbered over all episodes.

    with open_dataset("data/reach.h5") as data:
        frames = StepReader(data, data.split("train"), "obs/image")
    frames.read(np.array([7, 100_000, 8]))      # (3, H, W, C)

A reader outlives the file it was made from, and can be sent to other processes: each opens the file for
itself at its first read. Chunks are read without HDF5 where their layout allows it (`hdf5_chunks`), each once
per call, however many of its steps are wanted.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from simscaleai.array_types import Array, IntArray
from simscaleai.errors import UserError
from simscaleai.storage.episode import EpisodeMeta
from simscaleai.storage.episode_file import EpisodeFile, open_file
from simscaleai.storage.hdf5_chunks import ChunkError, Chunks

_SPAN_BYTES = 2**22  # read by a thread at a time
_GAP_BYTES = 2**14  # between chunks: reading so much in vain takes no longer than another call


class Columns(Protocol):
    """What a reader needs of a file whose values are found without HDF5."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def images(self) -> dict[str, str]:
        """See `EpisodeSource`."""

    @property
    def episodes(self) -> Sequence[EpisodeMeta]:
        """Those of the file."""

    @property
    def lengths(self) -> IntArray:
        """Steps of each, (episodes,)."""

    def columns(self, episodes: Sequence[int], keys: Sequence[str]) -> dict[str, Chunks | None]:
        """Return the chunks of some arrays; see `EpisodeFile.columns`."""


class StepReader:
    """Reads the array `key` of `episodes`, one after the other.

    Args:
      data: an open file; it may be closed afterwards.
      episodes: positions in `data.episodes`.
      key: "obs/image", "actions", ...
      columns: `data.columns` of these episodes, to find the chunks of several arrays at once.

    Attributes:
      shape, dtype: of one step; the same in all episodes.
      direct: whether chunks are read without HDF5.

    Raises:
      UserError: shape or dtype differ between episodes, or the array fails a check.
    """

    def __init__(
        self,
        data: EpisodeFile | Columns,
        episodes: Sequence[int],
        key: str,
        columns: Mapping[str, Chunks | None] | None = None,
    ) -> None:
        self.path, self.key, self._images = data.path, key, data.images
        wanted = np.asarray(episodes, np.int64)
        wanted = wanted[data.lengths[wanted] > 0]
        self.episodes = episodes = wanted.tolist()
        self._described = data.episodes
        self._starts = np.concatenate([[0], np.cumsum(data.lengths[wanted])])
        columns = data.columns(episodes, [key]) if columns is None else columns
        self._chunks = self._checked(columns[key])
        self.shape, self.dtype = self._common_step(data)
        self._identity = _identity(os.stat(data.path))
        self._raw: FileIO | None = None
        self._hdf5: tuple[int, EpisodeFile] | None = None

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def nbytes(self) -> int:
        """Bytes of all steps in memory."""
        return len(self) * math.prod(self.shape) * self.dtype.itemsize

    @property
    def direct(self) -> bool:
        return self._chunks is not None

    def read(self, steps: IntArray, out: Array | None = None) -> Array:
        """Return the given steps, (B, ...) in native byte order; written into `out` if it is given.

        Raises:
          UserError: the file has changed since the reader was made, or cannot be decoded.
        """
        if out is None:
            out = np.empty((len(steps), *self.shape), self.dtype)
        if self._chunks is None:
            self._read_by_hdf5(steps, out)
        else:
            self._read_chunks(self._chunks, steps, out)
        return out

    def read_all(self, threads: int = 1) -> Array:
        """Return every step, (N, ...), read in the order of the file."""
        out = np.empty((len(self), *self.shape), self.dtype)
        chunks = self._chunks
        count = len(self) if chunks is None else len(chunks.offsets)
        step = max(1, _SPAN_BYTES * count // max(self.nbytes, 1))
        starts = range(0, count, step)

        def fill(first: int) -> None:
            chunk_slice = slice(first, first + step)
            if chunks is None:
                self._read_by_hdf5(np.arange(len(self))[chunk_slice], out[chunk_slice])
            else:
                self._read_whole_chunks(chunks, chunk_slice, out)

        if chunks is not None:
            self._descriptor()  # opened here, and not by each thread
        if threads < 2 or chunks is None:  # HDF5 runs one thread at a time
            for start in starts:
                fill(start)
            return out
        pool = ThreadPoolExecutor(threads)
        try:
            for _ in pool.map(fill, starts):
                pass
        finally:
            # after an error the rest is not read
            pool.shutdown(cancel_futures=True)
        return out

    def close(self) -> None:
        """Close this process's handles of the file; the next read opens it again."""
        if self._raw is not None:
            self._raw.close()
        if self._hdf5 is not None and self._hdf5[0] == os.getpid():
            self._hdf5[1].close()
        self._raw = self._hdf5 = None

    def _read_chunks(self, chunks: Chunks, steps: IntArray, out: Array) -> None:
        """Fill `out` with the given steps; each chunk is read once."""
        file, decode = self._descriptor(), chunks.layout.decode
        wanted = np.searchsorted(chunks.starts, steps, "right") - 1  # (B,) chunk of each step
        in_chunk = steps - chunks.starts[wanted]
        offsets, sizes, chunk_steps = (
            column[wanted].tolist() for column in (chunks.offsets, chunks.sizes, chunks.steps)
        )
        previous = -1
        # in the order of chunks, so that each is decoded once; `out` keeps the order that was asked for
        for i in np.argsort(wanted, kind="stable").tolist():
            if wanted[i] != previous:
                try:
                    values = decode(os.pread(file, sizes[i], offsets[i]), steps=chunk_steps[i])
                except ChunkError as error:
                    raise self._refuse(error, steps[i]) from error
                previous = wanted[i]
            out[i] = values[in_chunk[i]]

    def _read_whole_chunks(self, chunks: Chunks, chunk_slice: slice, out: Array) -> None:
        """Read all steps of a slice of chunks to where they belong in `out`."""
        file, decode = self._descriptor(), chunks.layout.decode
        stops = np.append(chunks.starts[1:], len(self))[chunk_slice].tolist()
        columns = (chunks.offsets, chunks.sizes, chunks.steps, chunks.starts)
        offsets, sizes, chunk_steps, starts = (column[chunk_slice].tolist() for column in columns)
        for span in spans(chunks.offsets[chunk_slice], chunks.sizes[chunk_slice]):
            first = offsets[span.start]
            stored = memoryview(
                os.pread(file, offsets[span.stop - 1] + sizes[span.stop - 1] - first, first)
            )
            for i in range(span.start, span.stop):
                at, start = offsets[i] - first, starts[i]
                try:
                    values = decode(stored[at : at + sizes[i]], steps=chunk_steps[i])
                except ChunkError as error:
                    raise self._refuse(error, start) from error
                out[start : stops[i]] = values[: stops[i] - start]

    def _refuse(self, error: ChunkError, step: int) -> UserError:
        """Return the error for a chunk that holds the given step."""
        episode = int(np.searchsorted(self._starts, step, "right")) - 1
        name = self._described[self.episodes[episode]].name
        in_episode = step - self._starts[episode]
        return UserError(
            f"{self.path}: {self.key!r} of {name}, step {in_episode} {error}; the file is refused."
        )

    def _read_by_hdf5(self, steps: IntArray, out: Array) -> None:
        """Fill `out` through HDF5, runs of neighboring steps of an episode at once."""
        data = self._episode_file()
        order = np.argsort(steps, kind="stable")
        for run in self._runs(steps[order]):
            first, last = steps[order[run.start]], steps[order[run.stop - 1]]
            episode = int(np.searchsorted(self._starts, first, "right")) - 1
            start = int(first - self._starts[episode])
            stop = start + int(last - first) + 1
            values = data.read(self.episodes[episode], self.key, start, stop)
            out[order[run]] = values[steps[order[run]] - first]

    def _runs(self, steps: IntArray) -> Iterator[slice]:
        """Yield slices of sorted `steps` that are consecutive or equal, within one episode."""
        gaps = np.diff(steps) > 1
        episodes = np.diff(np.searchsorted(self._starts, steps, "right")) > 0
        cuts = [0, *(np.flatnonzero(gaps | episodes) + 1).tolist(), len(steps)]
        return (slice(a, b) for a, b in itertools.pairwise(cuts) if a < b)

    def _descriptor(self) -> int:
        """Return a file descriptor for `os.pread`, which threads and forked processes can share."""
        if self._raw is None:
            raw = FileIO(self.path)
            # offsets of chunks were found in the file as it was; in another one they point anywhere
            if _identity(os.fstat(raw.fileno())) != self._identity:
                raise UserError(f"{self.path} has changed while it was in use; start again.")
            self._raw = raw
        return self._raw.fileno()

    def _episode_file(self) -> EpisodeFile:
        """Return the file opened by HDF5 in this process; a handle inherited by a fork must not be used."""
        if self._hdf5 is None or self._hdf5[0] != os.getpid():
            self._hdf5 = (os.getpid(), open_file(self.path, self._images))
        return self._hdf5[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_raw": None, "_hdf5": None}

    def _checked(self, chunks: Chunks | None) -> Chunks | None:
        """Raise UserError for chunks that take more of the file than their values can."""
        if chunks is not None:
            try:
                chunks.layout.check_sizes(chunks.sizes, chunks.steps)
            except ChunkError as error:
                raise UserError(
                    f"{self.path}: {self.key!r} {error}; the file is refused."
                ) from error
        return chunks

    def _common_step(self, data: EpisodeFile | Columns) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and dtype of a step; raise UserError if episodes differ."""
        if self._chunks is not None:
            layout = self._chunks.layout
            return layout.shape[1:], layout.dtype.newbyteorder("=")
        assert isinstance(data, EpisodeFile)  # only HDF5 knows
        steps = [
            (data.shape(i, self.key)[1:], data.dtype(i, self.key))
            for i in self.episodes or [data.example]
        ]
        for i, step in zip(self.episodes, steps, strict=False):
            if step != steps[0]:
                raise UserError(
                    f"{data.path}: {self.key!r} of {data.episodes[i].name} has steps of {step[0]}"
                    f" {step[1]}, and the first episode of {steps[0][0]} {steps[0][1]}; validate the file."
                )
        return steps[0]


def spans(offsets: IntArray, sizes: IntArray) -> Iterator[slice]:
    """Divide chunks into runs that lie close behind one another in the file, to be read at once."""
    gaps = offsets[1:] - offsets[:-1] - sizes[:-1]
    apart = (gaps < 0) | (gaps > _GAP_BYTES)
    # and by place, so that none is long
    apart |= np.diff(offsets // _SPAN_BYTES) != 0
    cuts = [0, *(np.flatnonzero(apart) + 1).tolist(), len(offsets)]
    return (slice(a, b) for a, b in itertools.pairwise(cuts) if a < b)


def _identity(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
