"""The tables of some shards in a ring of memory: the shards that came first make room for new ones.

    ring = ShardTables(layout, sizes, rows=300_000)
    ring.put(7, tables)                                    # of shard 7
    rows = ring.rows(shards, steps)                        # steps[i] counts from the start of shards[i]
    ring.take("state", rows)

A batch of a shuffled dataset has steps of many shards. One gather from one table is as fast for them as for a
file in memory, where a call for each shard takes longer than the training step that it feeds.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import torch

from simscaleai.array_types import BoolArray, IntArray
from simscaleai.training.data.vector_layout import Tables, VectorLayout, empty_tables


class ShardTables:
    """See the module docstring.

    Args:
      sizes: (shards,) steps of each shard.
      rows: steps to have room for, at least the largest shard. What nothing was written to takes no memory.
    """

    def __init__(self, layout: VectorLayout, sizes: IntArray, rows: int) -> None:
        assert rows >= sizes.max(initial=0)
        self._tables = empty_tables(layout, rows)
        self._sizes, self._rows = sizes, rows
        # (shards,) row of the first step; -1: not there. A shard without steps always is
        self._first = np.where(sizes > 0, -1, 0)
        self._held: deque[int] = deque()  # in the order in which they came
        self._end = 0  # row after the newest shard

    def missing(self, shards: IntArray) -> BoolArray:
        """Return which of `shards` are not there."""
        absent: BoolArray = self._first[shards] < 0
        return absent

    def put(self, shard: int, tables: Tables) -> None:
        """Copy the tables of a shard that is not there."""
        size = int(self._sizes[shard])
        if self._end + size > self._rows:  # the rest of the ring is too short: go on at its start
            self._drop_before(self._rows)
            self._end = 0
        self._drop_before(self._end + size)
        for name, table in self._tables.items():
            # with NumPy: this may be a thread that must not start those of PyTorch
            table.numpy()[self._end : self._end + size] = tables[name].numpy()
        self._first[shard] = self._end
        self._held.append(shard)
        self._end += size

    def rows(self, shards: IntArray, steps: IntArray) -> torch.Tensor:
        """Return where steps (B,) of shards (B,) that are there lie, (B,), until the next `put`."""
        return torch.from_numpy(self._first[shards] + steps)

    def take(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        """Return rows of a table, (B, d)."""
        return self._tables[name].index_select(0, rows)

    def _drop_before(self, stop: int) -> None:
        """Drop the shards whose rows are between the newest one and `stop`."""
        # those of the last round, the oldest, begin behind the newest shard
        while self._held and self._end <= self._first[self._held[0]] < stop:
            self._first[self._held.popleft()] = -1
