"""Draw episodes of a dataset on an executor: what draws them, and chunks of them for one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from simscaleai.datagen.episode_renderer import EpisodeRenderer
from simscaleai.datagen.progress_bar import EpisodeCounts
from simscaleai.datagen.recorded_states import recorded_contract
from simscaleai.datagen.rewriting import Choice, Splits, source_hash, source_splits
from simscaleai.datagen.shards import ShardWriter
from simscaleai.errors import UserError
from simscaleai.executors.kept import Kept
from simscaleai.json_types import JsonDict
from simscaleai.rollout.registered import Registered
from simscaleai.storage.episodes import open_dataset

# Chunks of each worker: a killed one costs little, and all end at about the same time.
_PER_WORKER = 4
_CHUNK_EPISODES = 64


@dataclass(frozen=True)
class Rendering:
    """What draws the episodes of a dataset; it travels to workers.

    Attributes:
      dataset: absolute path.
      content: hash of its content; a worker may have an earlier dataset of this path open.
      settings: of the environment that differ from the recorded ones: cameras, engine.
      randomize, seed: see `render_dataset`.
    """

    dataset: Path
    content: str
    settings: JsonDict
    randomize: str | None
    seed: int


class OpenRendering:
    """A dataset, and what draws its episodes in this process.

    Raises:
      UserError: the dataset is not the one that was meant.
    """

    def __init__(self, rendering: Rendering) -> None:
        self.data = open_dataset(rendering.dataset)
        try:
            if source_hash(self.data) != rendering.content:
                raise UserError(
                    f"{rendering.dataset} was changed while it was rendered; start again with --overwrite."
                )
            contract = recorded_contract(self.data, "rendered again")
            settings, looks = rendering.settings, (rendering.randomize, rendering.seed)
            self.renderer = EpisodeRenderer(contract, settings, *looks)
        except BaseException:
            self.data.close()
            raise

    @cached_property
    def splits(self) -> Splits:
        """{mask: positions} of the dataset."""
        return source_splits([Choice(self.data, range(len(self.data)))])

    def close(self) -> None:
        self.renderer.close()
        self.data.close()


kept_rendering: Kept[Rendering, OpenRendering] = Kept(OpenRendering, OpenRendering.close)
"""What this process draws with: it serves all items of a task."""


@dataclass(frozen=True)
class RenderTask:
    """Draws chunks of a dataset and writes them to parts; it travels to workers.

    Attributes:
      rendering: what draws.
      registered: what the caller has registered and the environment needs.
      folder: where parts are written, an absolute path.
      chunks: positions of the episodes of each item.
    """

    rendering: Rendering
    registered: Registered
    folder: Path
    chunks: Sequence[Sequence[int]]

    def __call__(
        self, item: int, report: Callable[[EpisodeCounts], None] = lambda counts: None
    ) -> None:
        """Draw a chunk in this process; finished episodes are saved after an error too.

        `report` is called with each of them.
        """
        self.registered.register()
        opened = kept_rendering.get(self.rendering)
        pending = ShardWriter(self.folder)
        try:
            for i in self.chunks[item]:
                episode = opened.renderer.episode(opened.data, i)
                pending.add(episode)
                report(EpisodeCounts(1, int(episode.success), 1))
        finally:
            pending.flush()


def chunks_of(episodes: Sequence[int], workers: int) -> list[Sequence[int]]:
    """Divide episodes among workers."""
    size = max(1, min(len(episodes) // (workers * _PER_WORKER), _CHUNK_EPISODES))
    return [episodes[i : i + size] for i in range(0, len(episodes), size)]
