"""The values of one shard, found by the index at its end, without HDF5."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.storage.episode import OBS
from simscaleai.storage.episode_table import EpisodeTable
from simscaleai.storage.hdf5_chunks import Chunks
from simscaleai.storage.index import Index
from simscaleai.storage.obs_names import KeyPaths
from simscaleai.storage.sealed_index import unseal
from simscaleai.storage.shard_row import ShardRow


class IndexedShard:
    """Where the values of a shard are, by its index alone; what `StepReader` needs of a dataset.

    Attributes:
      path: the shard.
      images: none.
      episodes: of the shard.
      lengths: (episodes,) steps of each.
    """

    def __init__(self, path: Path, row: ShardRow, places: KeyPaths, index: Index) -> None:
        self.path, self.images, self._places, self._index = path, dict[str, str](), places, index
        self.episodes, self.lengths = EpisodeTable([row], [0, len(row.lengths)]), index.lengths

    @classmethod
    def find(cls, path: Path, row: ShardRow, contract: EnvContract | None) -> IndexedShard | None:
        """Return the index of a shard; None if it is damaged, out of date or not of these episodes."""
        # numbers of the manifest, which is as little trusted as the shard
        if not 0 < row.index_offset <= row.nbytes - row.index_bytes:
            return None
        with open(path, "rb") as file:
            raw = os.pread(file.fileno(), row.index_bytes, row.index_offset)
            # one read of the table and one of the gaps between chunks; HDF5 is not asked
            index = unseal(file.fileno(), raw, row.index_offset)
        # a shard that was replaced by another one with a good index must not pass for this one
        if index is None or not np.array_equal(index.lengths, row.lengths):
            return None
        paths = [p.removeprefix(OBS) for p in index.columns if p.startswith(OBS)]
        return cls(path, row, KeyPaths(contract, paths, source=str(path)), index)

    def columns(self, episodes: Sequence[int], keys: Sequence[str]) -> dict[str, Chunks | None]:
        """Return the chunks of some arrays over some episodes; see `EpisodeFile.columns`."""
        found: dict[str, Chunks | None] = {}
        for key in keys:
            chunks = self._index.chunks(self._places.path_of(key), episodes)
            if chunks is None:
                raise UserError(f"The shard {self.path} has no {key!r}; validate the dataset.")
            found[key] = self._places.with_step_shape(key, chunks)
        return found
