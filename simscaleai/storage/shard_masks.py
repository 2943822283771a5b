"""The splits of a sharded dataset, as its manifest lists them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simscaleai.errors import unknown_name
from simscaleai.storage.shard_row import ShardRow
from simscaleai.storage.split_masks import SPLITS


class ShardMasks:
    """Training and validation episodes of a sharded dataset; the manifest lists them."""

    names = list(SPLITS)

    def __init__(self, path: Path, rows: Sequence[ShardRow]) -> None:
        self._path = path
        self._valid = np.concatenate([row.valid for row in rows])  # (episodes,) of all shards

    def read(self, name: str) -> tuple[list[int], list[str]]:
        """Return the sorted positions of "train" or "valid"; no name is missing."""
        return np.flatnonzero(self._valid == (name == "valid")).tolist(), []

    def split(self, name: str) -> list[int]:
        """Return the sorted positions of "all", "train" or "valid"; UserError for another name."""
        if name == "all":
            return list(range(len(self._valid)))
        if name not in SPLITS:
            raise unknown_name(f"split of {self._path}:", name, {*SPLITS, "all"})
        return self.read(name)[0]

    def problems(self) -> list[str]:
        """Return none: one column of flags cannot contradict itself."""
        return []
