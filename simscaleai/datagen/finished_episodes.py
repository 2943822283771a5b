"""The finished episodes of a file that is being made, read from its parts as they appear."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from simscaleai.datagen.progress_bar import EpisodeCounts, ProgressBar
from simscaleai.datagen.shards import EpisodeSummary, ShardFolder, read_summaries
from simscaleai.errors import UserError
from simscaleai.executors import Executor, InProcess

_LOOK_SECONDS = 0.5  # workers write a part every few seconds


class FinishedEpisodes:
    """Reads each part of a folder once.

    Attributes:
      folder: of the file that is being made.
      summaries: {episode index: summary} of the parts that were read.
    """

    def __init__(self, folder: ShardFolder) -> None:
        self.summaries: dict[int, EpisodeSummary] = {}
        self.folder = folder
        self._read: set[Path] = set()
        self.update()

    def update(self) -> list[EpisodeSummary]:
        """Read the parts that have appeared; return the episodes that were not known."""
        new = []
        for part in self.folder.shards():
            if part in self._read:
                continue
            # two parts may hold the same episode, of a worker that was killed
            for episode in read_summaries(part):
                if episode.index not in self.summaries:
                    self.summaries[episode.index] = episode
                    new.append(episode)
            self._read.add(part)
        return new

    def run(
        self, task: Callable[..., None], executor: Executor, count: int, bar: ProgressBar
    ) -> None:
        """Run `count` items of a task that writes parts and calls `report` with each episode.

        The bar moves with every episode of this process, or with every part of another one.
        """
        if isinstance(executor, InProcess):
            for _ in executor.run(partial(task, report=bar.add), range(count)):
                pass
            self.update()
            return
        with self.shown_by(bar):
            for _ in executor.run(task, range(count)):
                pass

    @contextmanager
    def shown_by(self, bar: ProgressBar) -> Iterator[None]:
        """Advance a bar as other processes write parts."""
        over = threading.Event()

        def look() -> None:
            with suppress(UserError):  # of a damaged part: the last update raises it again
                while not over.wait(_LOOK_SECONDS):
                    bar.add(EpisodeCounts.of(self.update()))

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        bar.add(EpisodeCounts.of(self.update()))
