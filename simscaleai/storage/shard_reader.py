"""Read steps of some episodes of a sharded dataset: a whole shard at once, or any steps in any order.

    with open_dataset("data/big") as data:
        reader = ShardReader(data, data.split("train"), ["obs/ee_pos", "obs/image"])
    reader.read_shard(3, "obs/ee_pos")                       # (steps of shard 3, 3)
    reader.read("obs/image", np.array([7, 1_000_000, 8]))    # (3, H, W, C)

Steps are numbered over the episodes that were asked for, shard by shard. A reader outlives the dataset that
it was made from and can be sent to other processes. It holds the files of a few shards open, those used
last, so that a thousand shards take no thousand file descriptors.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from simscaleai.array_types import Array, IntArray
from simscaleai.errors import UserError
from simscaleai.storage.sharded_dataset import ShardedDataset
from simscaleai.storage.step_reader import StepReader

OPEN_SHARDS = 16


class ShardReader:
    """Reads the arrays `keys` of `episodes` of `data`.

    Attributes:
      path: the folder of the dataset.
      starts: (shards + 1,) number of the first step of each shard, and of all steps.
      open_shards: how many shards stay open.
    """

    def __init__(self, data: ShardedDataset, episodes: Sequence[int], keys: Sequence[str]) -> None:
        self.data, self.path, self.keys = data, data.path, list(keys)
        chosen = np.asarray(episodes, np.int64)
        cuts = np.searchsorted(chosen, data.starts)  # episodes are sorted
        # positions in their shards of the chosen episodes of each shard
        self._local = [
            (chosen[a:b] - first).tolist()
            for a, b, first in zip(cuts[:-1], cuts[1:], data.starts[:-1].tolist(), strict=True)
        ]
        steps = np.concatenate([[0], np.cumsum(data.lengths[chosen])])  # (episodes + 1,)
        self.starts: IntArray = steps[cuts]
        self.open_shards = OPEN_SHARDS
        self._readers: OrderedDict[int, dict[str, StepReader]] = OrderedDict()

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def shard_steps(self) -> IntArray:
        """Number of steps of each shard, (shards,)."""
        return np.diff(self.starts)

    def step(self, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and dtype of one step of an array."""
        i = self.data.example
        return self.data.shape(i, key)[1:], self.data.dtype(i, key)

    def shard_of(self, steps: IntArray) -> IntArray:
        """Return the shard of each step."""
        return np.searchsorted(self.starts, steps, "right") - 1

    def read_shard(self, shard: int, keys: Sequence[str], threads: int = 1) -> dict[str, Array]:
        """Return {key: (steps, ...)} of one shard, read in the order of the file.

        Raises:
          UserError: the shard is missing, damaged, or not what the manifest says.
        """
        readers = self._make_readers(shard, keys)
        try:
            return {key: readers[key].read_all(threads) for key in keys}
        finally:
            for reader in readers.values():
                reader.close()

    def read(self, key: str, steps: IntArray) -> Array:
        """Return the given steps (B,), in any order, as (B, ...)."""
        shape, dtype = self.step(key)
        out = np.empty((len(steps), *shape), dtype)
        shards = self.shard_of(steps)
        # shard by shard, so that each is looked up and opened once
        for shard in np.unique(shards).tolist():
            which = np.flatnonzero(shards == shard)
            out[which] = self._reader(shard, key).read(steps[which] - self.starts[shard])
        return out

    def close(self) -> None:
        """Close this process's handles; the next read opens them again."""
        for readers in self._readers.values():
            for reader in readers.values():
                reader.close()
        self._readers.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": OrderedDict()}

    def _reader(self, shard: int, key: str) -> StepReader:
        if shard not in self._readers:
            self._readers[shard] = self._make_readers(shard, self.keys)
            while len(self._readers) > self.open_shards:
                for reader in self._readers.popitem(last=False)[1].values():
                    reader.close()
        self._readers.move_to_end(shard)
        return self._readers[shard][key]

    def _make_readers(self, shard: int, keys: Sequence[str]) -> dict[str, StepReader]:
        episodes = self._local[shard]
        with self.data.open_shard(shard) as file:
            columns = file.columns(episodes, keys)
            readers = {key: StepReader(file, episodes, key, columns) for key in keys}
        for key, reader in readers.items():
            # `read` fills one array from many shards, which must agree
            if (reader.shape, reader.dtype) != self.step(key):
                raise UserError(
                    f"The shard {reader.path} has {key!r} of {reader.shape} {reader.dtype}, and the manifest"
                    f" says {self.step(key)}; validate the dataset."
                )
            if len(reader) != self.shard_steps[shard]:
                raise UserError(
                    f"The shard {reader.path} has {len(reader)} steps of these episodes, and"
                    f" {self.shard_steps[shard]} in the manifest; validate the dataset."
                )
        return readers


class ShardArray:
    """One array of a `ShardReader`, with the methods of a `StepReader`."""

    def __init__(self, reader: ShardReader, key: str) -> None:
        self.reader, self.key = reader, key
        self.shape, self.dtype = reader.step(key)

    @property
    def nbytes(self) -> int:
        """Bytes of all steps in memory."""
        return len(self.reader) * math.prod(self.shape) * self.dtype.itemsize

    def read(self, steps: IntArray) -> Array:
        """Return the given steps, (B, ...)."""
        return self.reader.read(self.key, steps)

    def read_all(self, threads: int = 1) -> Array:
        """Return every step, (N, ...)."""
        out = np.empty((len(self.reader), *self.shape), self.dtype)
        for shard, count in enumerate(self.reader.shard_steps.tolist()):
            if count:
                part = self.reader.read_shard(shard, [self.key], threads)[self.key]
                out[self.reader.starts[shard] : self.reader.starts[shard + 1]] = part
        return out

    def close(self) -> None:
        """Close the files of the reader, of all its arrays."""
        self.reader.close()
