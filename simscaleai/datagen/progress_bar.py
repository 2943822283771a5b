"""The progress bar of data generation: episodes, speed, success so far, time left."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from simscaleai.datagen.shards import EpisodeSummary
from simscaleai.terminal import can_draw


class EpisodeCounts(NamedTuple):
    """Counts of episodes that were run; `kept` are those that belong in the dataset."""

    episodes: int = 0
    successes: int = 0
    kept: int = 0

    @classmethod
    def of(cls, summaries: Iterable[EpisodeSummary]) -> Self:
        """Return the counts of some episodes."""
        outcomes = [(each.success, each.kept) for each in summaries]
        return cls(len(outcomes), sum(o[0] for o in outcomes), sum(o[1] for o in outcomes))


_NONE = EpisodeCounts()


class ProgressBar:
    """A context manager; draws on stderr, and nothing where that is no terminal.

    Args:
      total: episodes to keep; others do not advance the bar.
    """

    def __init__(self, total: int, *, show: bool) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} episodes/s"),
            TextColumn("success {task.fields[success]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (show and can_draw(console)),
            transient=True,
        )
        self._task = self._bar.add_task("episodes", total=total, rate=0.0, success="-")
        self._episodes = self._successes = self._kept = 0
        self._run = 0
        self._began = time.monotonic()

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def start(self, finished: EpisodeCounts = _NONE) -> None:
        """Begin to count time, from what an earlier run has finished."""
        self._count(finished)
        self._began = time.monotonic()

    def add(self, done: EpisodeCounts) -> None:
        """Count episodes that were run."""
        self._run += done.episodes
        self._count(done)

    def writing(self) -> None:
        self._bar.update(self._task, description="writing the file")

    def _count(self, done: EpisodeCounts) -> None:
        self._episodes += done.episodes
        self._successes += done.successes
        self._kept += done.kept
        seconds = max(time.monotonic() - self._began, 1e-3)
        self._bar.update(
            self._task,
            completed=self._kept,
            rate=self._run / seconds,
            success=f"{self._successes / self._episodes:.1%}" if self._episodes else "-",
        )
