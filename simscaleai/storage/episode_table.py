"""The episodes of the shards of a manifest, each described when it is asked for."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import overload

from simscaleai.storage.episode import EpisodeMeta
from simscaleai.storage.shard_row import ShardRow


class EpisodeTable(Sequence[EpisodeMeta]):
    """The episodes of some shards, described when they are asked for: a million objects are not made.

    Args:
      rows: of the shards.
      starts: number of the first episode of each shard, and of all episodes.
      unknown: "seed" or "success", where no episode records it.
    """

    def __init__(
        self, rows: Sequence[ShardRow], starts: Sequence[int], unknown: Collection[str] = ()
    ) -> None:
        self._rows, self._starts, self._unknown = rows, starts, frozenset(unknown)

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, i: int) -> EpisodeMeta: ...
    @overload
    def __getitem__(self, i: slice) -> list[EpisodeMeta]: ...

    def __getitem__(self, i: int | slice) -> EpisodeMeta | list[EpisodeMeta]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(f"episode {i} of {len(self)}")
        # after the check of the range, so that only -1, -2, ... count from the end
        i %= len(self)
        # right, since the first episode of a shard belongs to it and not to the one before
        shard = bisect.bisect_right(self._starts, i) - 1
        return self._meta(self._rows[shard], i - self._starts[shard], i)

    def __iter__(self) -> Iterator[EpisodeMeta]:
        count = itertools.count()
        return (
            self._meta(row, k, next(count)) for row in self._rows for k in range(len(row.lengths))
        )

    def _meta(self, row: ShardRow, local: int, i: int) -> EpisodeMeta:
        """Return the description of episode i, which is the `local`-th of its shard."""
        return EpisodeMeta(
            f"demo_{i}",
            int(row.lengths[local]),
            None if "seed" in self._unknown else int(row.seeds[local]),
            None if "success" in self._unknown else bool(row.successes[local]),
            row.instructions[local],
        )
