"""Frames of one camera: from memory where they fit in it, else from the file.

Frames are kept as they are stored, decoded and not converted: bytes take a quarter of the memory of
floats. What fits is read once, in the order of the file, by all cores; what does not is read when asked
for, which is what worker processes are for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

import torch

from simscaleai.array_types import Array, IntArray
from simscaleai.memory import free_memory
from simscaleai.tensor_types import StateDict

_MIB = 2**20
_DEFAULT_BUDGET = 2048 * _MIB
_MOST_THREADS = 8  # Python's lock, held between two chunks, feeds no more


class FrameReader(Protocol):
    """Reads images by the number of their step: from a file, from shards, or by drawing them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image."""

    @property
    def nbytes(self) -> int:
        """Bytes of all images in memory."""

    def read(self, steps: IntArray) -> Array:
        """Return the images of some steps, (B, H, W, C)."""

    def read_all(self, threads: int) -> Array:
        """Return the images of all steps."""

    def close(self) -> None:
        """Close files; the next read opens them again."""


class Frames:
    """The frames of a reader, by number.

    Args:
      reader: of rows (H, W, C).
      keep: whether `load` takes all of them into memory.
    """

    def __init__(self, reader: FrameReader, keep: bool) -> None:
        self.reader, self.keep = reader, keep
        self._memory: Array | None = None

    def load(self) -> None:
        """Take all frames into memory, if they are to be kept and are not there yet."""
        if self.keep and self._memory is None:
            self._memory = self.reader.read_all(_threads())
            self.reader.close()  # nothing is read from the file any more

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        """Frames of any shape of numbers, (*rows.shape, H, W, C) as stored."""
        flat = rows.reshape(-1).numpy()
        # NumPy copies whole frames; torch's indexing copies such rows value by value.
        source = self.reader.read if self._memory is None else self._memory_at
        return torch.from_numpy(source(flat)).view(*rows.shape, *self.reader.shape)

    def _memory_at(self, rows: IntArray) -> Array:
        assert self._memory is not None
        return self._memory.take(rows, axis=0)

    def __getstate__(self) -> StateDict:
        return {**self.__dict__, "_memory": None}  # not for sending to a worker


def fits(readers: Sequence[FrameReader], cache_mb: float | None) -> bool:
    """Whether all frames of the readers fit in memory; see `cache_bytes`."""
    return sum(reader.nbytes for reader in readers) <= cache_bytes(cache_mb)


def cache_bytes(cache_mb: float | None) -> int:
    """Return the bytes of `cache_mb` MiB; of None those that the machine can spare.

    That is a quarter of the memory that is free now and at most 2 GiB, shared by the processes that
    torchrun started here.
    """
    if cache_mb is not None:
        return int(cache_mb * _MIB)
    # a quarter leaves room for the model, and for the validation split with a cache of its own
    return min(_DEFAULT_BUDGET, free_memory() // 4) // _local_processes()


def _local_processes() -> int:
    return max(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def _threads() -> int:
    # a container or a job scheduler may give the process fewer cores than the machine has
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(here // _local_processes(), _MOST_THREADS))
