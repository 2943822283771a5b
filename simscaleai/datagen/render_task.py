"""Draw episodes of a dataset on an executor: chunks of them, written to shards where they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simscaleai.datagen.episode_renderer import EpisodeRenderer
from simscaleai.datagen.recorded_states import recorded_contract
from simscaleai.datagen.shards import ShardWriter
from simscaleai.executors.kept import Kept
from simscaleai.json_types import JsonDict
from simscaleai.rollout.registered import Registered
from simscaleai.storage.episodes import EpisodeSource, open_dataset

# Chunks of each worker: a killed one costs little, and all end at about the same time.
_PER_WORKER = 4
_CHUNK_EPISODES = 64


@dataclass(frozen=True)
class RenderTask:
    """Draws the chunks of a dataset; it travels to workers.

    Attributes:
      dataset: absolute path.
      content: hash of its content; a worker may have an earlier dataset of this path open.
      settings: of the environment that differ from the recorded ones: cameras, engine.
      randomize, seed: see `render_dataset`.
      folder: where shards are written, an absolute path.
      registered: what the caller has registered and the environment needs.
      chunks: positions of the episodes of each item.
    """

    dataset: Path
    content: str
    settings: JsonDict
    randomize: str | None
    seed: int
    folder: Path
    registered: Registered
    chunks: tuple[tuple[int, ...], ...] = ()

    def divided(self, episodes: Sequence[int], workers: int) -> RenderTask:
        """Return the task whose items are chunks of these episodes."""
        size = max(1, min(len(episodes) // (workers * _PER_WORKER), _CHUNK_EPISODES))
        starts = range(0, len(episodes), size)
        return replace(self, chunks=tuple(tuple(episodes[i : i + size]) for i in starts))

    def __call__(self, item: int) -> None:
        """Draw a chunk in this process."""
        self.registered.register()
        data, renderer = _open.get(replace(self, chunks=()))  # the same for all parts
        pending = ShardWriter(self.folder)
        for i in self.chunks[item]:
            pending.add(renderer.episode(data, i))
        pending.flush()


def _opened(task: RenderTask) -> tuple[EpisodeSource, EpisodeRenderer]:
    data = open_dataset(task.dataset)
    contract = recorded_contract(data, "rendered again")
    return data, EpisodeRenderer(contract, task.settings, task.randomize, task.seed)


def _closed(opened: tuple[EpisodeSource, EpisodeRenderer]) -> None:
    for each in opened:
        each.close()


# of this process: dataset and renderer serve all chunks of a task
_open: Kept[RenderTask, tuple[EpisodeSource, EpisodeRenderer]] = Kept(_opened, _closed)
close_renderer = _open.close
"""Close the dataset and the renderer that this process has open, if any."""
