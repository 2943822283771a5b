"""The index of a file of episodes: one table, /index, that says where everything is.

HDF5 takes 30 microseconds to say where one array lies, and 20,000 episodes have 200,000 arrays. The writer
knows all of it: lengths and attributes of the episodes, offset and size of every chunk. Here it is one read.

The table is a cache and never the truth. It holds a checksum over every byte of the file that is neither a
value of an array nor the table itself: whatever a tool adds, removes, renames or moves afterwards changes
one of those bytes, and then the table is not used. Values that were overwritten in place are still found.
Like everything in a file it is untrusted: what it claims is checked against the limits of `storage.hdf5`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import BoolArray, IntArray
from simscaleai.storage.hdf5 import (
    MAX_CHUNK_BYTES,
    MAX_DEFLATE_RATIO,
    MAX_FILE_RATIO,
    MAX_TOTAL_BYTES,
)
from simscaleai.storage.hdf5_chunks import FILTERS, Chunks, Layout

NAME = "index"
NO_TABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
_PER_EPISODE = ("lengths", "seeds", "successes", "languages")


@dataclass
class Column:
    """One array of every episode.

    Attributes:
      layout: of its chunks; an episode shorter than `layout.shape[0]` steps is one chunk of its own length.
      offsets, sizes: (chunks,) see `Chunks`.
    """

    layout: Layout
    offsets: IntArray
    sizes: IntArray

    def chunk_steps(self, lengths: IntArray) -> IntArray:
        """Return the steps per chunk in episodes of these lengths."""
        return np.minimum(lengths, self.layout.shape[0])

    def counts(self, lengths: IntArray) -> IntArray:
        """Return the number of chunks of episodes of these lengths."""
        return -(-lengths // self.chunk_steps(lengths))


@dataclass
class Index:
    """The episodes of a file in numerical order; all have the same arrays, and at least one step.

    Attributes:
      lengths, seeds, successes: (episodes,) int64, uint64, bool.
      languages: (episodes,) int64, position of the instruction in `texts`.
      columns: {path of an array below its episode's group: Column}.
    """

    lengths: IntArray
    seeds: NDArray[np.uint64]
    successes: BoolArray
    languages: IntArray
    texts: list[str]
    columns: dict[str, Column] = field(default_factory=dict)

    def chunks(self, path: str, episodes: Sequence[int]) -> Chunks | None:
        """Return the chunks of an array over some episodes, one after the other; None if it is not listed."""
        column = self.columns.get(path)
        if column is None:
            return None
        # all as columns of numbers: 200,000 chunks are too many for a loop in Python
        wanted = np.asarray(episodes, np.int64)
        all_counts = column.counts(self.lengths)  # (episodes,)
        first, counts, steps = (
            (np.cumsum(all_counts) - all_counts)[wanted],
            all_counts[wanted],
            self.lengths[wanted],
        )
        in_episode = np.arange(counts.sum()) - np.repeat(
            np.cumsum(counts) - counts, counts
        )  # (chunks,) number within the episode
        chunk_ids = np.repeat(first, counts) + in_episode  # (chunks,) row in `column`
        chunk_steps = np.repeat(column.chunk_steps(steps), counts)
        starts = (
            np.repeat(np.cumsum(steps) - steps, counts) + in_episode * chunk_steps
        )  # (chunks,) first step
        return Chunks(
            column.layout, column.offsets[chunk_ids], column.sizes[chunk_ids], chunk_steps, starts
        )

    def about(self) -> tuple[list[int], list[int], list[bool], list[str]]:
        """Return length, seed, success and instruction of every episode."""
        instructions = [self.texts[i] for i in self.languages.tolist()]
        return self.lengths.tolist(), self.seeds.tolist(), self.successes.tolist(), instructions

    def encode(self) -> bytes:
        """Serialize the table; the number of bytes does not depend on offsets and sizes."""
        arrays = {
            path: {
                "dtype": column.layout.dtype.str,
                "chunk": column.layout.shape,
                "filters": column.layout.filters,
            }
            for path, column in self.columns.items()
        }
        head = json.dumps({"episodes": len(self.lengths), "texts": self.texts, "arrays": arrays})
        parts = [getattr(self, name) for name in _PER_EPISODE]
        parts += [part for c in self.columns.values() for part in (c.offsets, c.sizes)]
        body = b"".join(part.astype("<i8").tobytes() for part in parts)
        return len(head.encode()).to_bytes(8, "little") + head.encode() + body

    @classmethod
    def decode(cls, raw: bytes, file_size: int) -> Index:
        """Parse what `encode` returned.

        Raises:
          one of `NO_TABLE`: the bytes are no table, or claim what a file of `file_size` bytes cannot hold.
        """
        # 8 bytes with the length of the head, the head as JSON, then nothing but 64-bit integers
        length = int.from_bytes(raw[:8], "little")
        head = json.loads(raw[8 : 8 + length])
        numbers = np.frombuffer(raw[8 + length :], "<i8").astype(np.int64)
        position = 0

        def take(count: int) -> IntArray:
            nonlocal position
            # a negative count would move backwards, and read one column as another
            if not 0 <= count <= len(numbers) - position:
                raise ValueError("more numbers than there are")
            position += count
            return numbers[position - count : position]

        lengths, seeds, successes, languages = (take(int(head["episodes"])) for _ in _PER_EPISODE)
        texts = [str(text) for text in head["texts"]]
        if not ((lengths >= 1) & (lengths <= MAX_TOTAL_BYTES)).all():
            raise ValueError("lengths that cannot be")
        if not ((languages >= 0) & (languages < len(texts))).all():
            raise ValueError("instructions that are not there")
        index = cls(lengths, seeds.view(np.uint64), successes.astype(bool), languages, texts)
        total = 0
        for path, about in head["arrays"].items():
            shape, filters = (tuple(map(int, about[name])) for name in ("chunk", "filters"))
            layout = Layout(shape, np.dtype(str(about["dtype"])), filters)
            if not _is_plain(layout):
                raise ValueError("an array of no plain numbers")
            # the layout alone says how many chunks there are, so offsets and sizes are taken after it
            column = Column(layout, *(take(0) for _ in range(2)))
            count = int(column.counts(lengths).sum())
            column.offsets, column.sizes = take(count), take(count)
            index.columns[str(path)] = column
            total += _declared(column, lengths, file_size)
        # a table that fits must be used up: what is left over means that it was read wrongly
        if position != len(numbers) or "actions" not in index.columns:
            raise ValueError("numbers without a meaning")
        if total > max(MAX_TOTAL_BYTES, MAX_FILE_RATIO * file_size):
            raise ValueError("more values than the file can hold")
        return index


def _is_plain(layout: Layout) -> bool:
    """Return whether chunks hold numbers, are not too large and can be decoded."""
    known = layout.dtype.kind in "biuf" and set(layout.filters) <= FILTERS
    return known and min(layout.shape) >= 1 and layout.step_nbytes <= MAX_CHUNK_BYTES


def _declared(column: Column, lengths: IntArray, file_size: int) -> int:
    """Return the bytes of an array's values; ValueError unless its chunks in the file can hold them."""
    counts, layout = column.counts(lengths), column.layout
    nbytes = np.repeat(column.chunk_steps(lengths), counts) * layout.step_nbytes
    low, size = column.offsets, column.sizes
    # written so that no sum can overflow: `low + size` of hostile numbers might
    inside = (low > 0) & (size > 0) & (size <= file_size) & (low <= file_size - size)
    ratio = MAX_DEFLATE_RATIO if layout.gzipped else 1
    if not inside.all() or (nbytes > np.minimum(size * ratio, MAX_CHUNK_BYTES)).any():
        raise ValueError("chunks that cannot be")
    return int(nbytes.sum())
