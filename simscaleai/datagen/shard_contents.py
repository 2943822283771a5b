"""What the manifest says of a shard, collected while its episodes are written or read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from simscaleai.array_types import Array
from simscaleai.observations import is_image
from simscaleai.storage.array_statistics import ArrayStatistics
from simscaleai.storage.episode import LABELS, OBS, Episode
from simscaleai.storage.shard_row import ArrayShapes, SplitStatistics


@dataclass
class ShardContents:
    """What the row of a shard is made from, by position of an episode in it."""

    episodes: dict[int, tuple[int, int, bool, str, float]] = field(default_factory=dict)
    vectors: dict[str, dict[int, Array]] = field(default_factory=dict)
    arrays: ArrayShapes = field(default_factory=dict)

    def add(self, position: int, episode: Episode) -> None:
        """Note an episode; its images are not kept."""
        reward = float(np.sum(episode.rewards, dtype=np.float64))
        about = (len(episode), episode.seed, episode.success, episode.language, reward)
        self.episodes[position] = about
        for key, values in episode.arrays().items():
            self.add_array(position, key, values)

    def add_array(self, position: int, key: str, values: Array) -> None:
        """Note the shape of an array of an episode, and its values if training normalizes them."""
        if key not in self.arrays:  # the same in all episodes; a dtype's name is slow to make
            self.arrays[key] = list(values.shape[1:]), values.dtype.name
        name = key.removeprefix(OBS)
        vector = key.startswith(OBS) and not is_image(name, values.shape[1:], values.dtype)
        if vector or key in ("actions", LABELS):
            self.vectors.setdefault(key, {})[position] = values

    def statistics(self, splits: Mapping[str, Sequence[int]]) -> SplitStatistics:
        """Return the statistics of all vectors, in the order of the episodes."""
        return {
            name: {
                key: ArrayStatistics.of(np.concatenate([values[i] for i in positions]))
                for key, values in self.vectors.items()
            }
            for name, positions in splits.items()
            if positions
        }
