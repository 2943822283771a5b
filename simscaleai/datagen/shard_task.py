"""What the shards of a dataset are made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from simscaleai.datagen.job import Job
from simscaleai.datagen.recipe import Recipe
from simscaleai.rollout.registered import Registered
from simscaleai.storage.episode import split_episodes


@dataclass(frozen=True)
class ShardTask:
    """Everything that the shards of a dataset are made from; it travels to workers.

    Attributes:
      job: what runs the episodes.
      registered: what the caller has registered and the job needs.
      recipe: what decides the content.
      folder: of the dataset, an absolute path.
      shard_episodes: episodes of a shard; the last one may have fewer.
    """

    job: Job
    registered: Registered
    recipe: Recipe
    folder: Path
    shard_episodes: int

    @property
    def count(self) -> int:
        """Number of shards."""
        return -(-self.recipe.n_episodes // self.shard_episodes)

    def indices(self, number: int) -> range:
        """Return the episodes of a shard."""
        first = number * self.shard_episodes
        return range(first, min(first + self.shard_episodes, self.recipe.n_episodes))

    def splits(self, number: int) -> dict[str, list[int]]:
        """Return {"train" or "valid": positions in the shard}: its part of the split of the whole dataset."""
        indices, recipe = self.indices(number), self.recipe
        whole = split_episodes(recipe.n_episodes, recipe.seed, recipe.valid_fraction)
        return {
            name: [i - indices.start for i in positions if i in indices]
            for name, positions in whole.items()
        }
