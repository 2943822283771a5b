"""The shards of a dataset that is rendered again: read states, draw, encode.

Shard j has the episodes of the source from j * m on, in their order, so that a task opens few of its shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from simscaleai.datagen.dataset_output import check_splits, other_arrays
from simscaleai.datagen.render_task import OpenRendering, Rendering, kept_rendering
from simscaleai.datagen.shard_file import split_part
from simscaleai.datagen.shard_task import ShardTask
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.storage.episode import Episode
from simscaleai.storage.shard_row import ShardRow
from simscaleai.storage.sharded_dataset import ShardedDataset


@dataclass(frozen=True)
class RenderShardTask(ShardTask):
    """Draws the shards of a dataset.

    Attributes:
      rendering: what draws.
      total: number of episodes.
      recipe: what decides the content, as JSON values.
      source: statistics of the dataset that is drawn.
    """

    rendering: Rendering
    total: int
    recipe: JsonDict
    source: JsonDict
    verb = "rendering"

    @property
    def n_episodes(self) -> int:
        return self.total

    @property
    def settings(self) -> JsonDict:
        # a source that has no content hash may have grown
        return {"n_episodes": self.total, **self.recipe}

    def splits(self, number: int) -> dict[str, list[int]]:
        return split_part(kept_rendering.get(self.rendering).splits, self.indices(number))

    def max_steps(self, number: int) -> int:
        episodes = kept_rendering.get(self.rendering).data.episodes
        return max(episodes[i].length for i in self.indices(number))

    def episodes(self, number: int, counts: dict[str, int]) -> Iterator[tuple[int, Episode]]:
        """Draw the episodes of a shard; nothing is run for it, and `counts` stay 0."""
        opened = kept_rendering.get(self.rendering)
        data, renderer = opened.data, opened.renderer
        for position, i in enumerate(self.indices(number)):
            yield position, replace(renderer.episode(data, i), **renderer.origin(data, i))

    def statistics(self, rows: Sequence[ShardRow]) -> JsonDict:
        """Return what the source says of its episodes, such as how many attempts they took."""
        return self.source


def check_for_shards(opened: OpenRendering) -> None:
    """Raise UserError for a dataset that is not complete, or whose masks or arrays no manifest describes."""
    data = opened.data
    if isinstance(data, ShardedDataset):  # one manifest describes it already
        if not data.manifest.complete:  # nothing would tell it from another one on --resume
            raise UserError(
                f"{data.path} is not complete; run the command that writes it with --resume, or render what"
                " is there into one file, without --shard-episodes."
            )
        return
    check_splits(opened.splits, len(data))
    first = set(data.keys(0))
    for i in range(len(data)):
        if differing := first.symmetric_difference(data.keys(i)):
            raise other_arrays(i, differing)
