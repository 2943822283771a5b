"""Run the episodes that a dataset misses, in rounds, until it is determined."""

from __future__ import annotations

import math
from collections.abc import Mapping

from simscaleai.datagen.attempts import TooFewSuccesses, most_attempts, too_few
from simscaleai.datagen.file_task import FileTask
from simscaleai.datagen.finished_episodes import FinishedEpisodes
from simscaleai.datagen.job import Job
from simscaleai.datagen.progress_bar import EpisodeCounts, ProgressBar
from simscaleai.datagen.recipe import Recipe
from simscaleai.datagen.shards import EpisodeSummary
from simscaleai.datagen.worker import kept_worker
from simscaleai.executors import choose_executor
from simscaleai.rollout.registered import Registered


def run_rounds(
    job: Job,
    registered: Registered,
    recipe: Recipe,
    workers: int,
    finished: FinishedEpisodes,
    bar: ProgressBar,
) -> None:
    """Run the episodes that are missing among the finished ones, in rounds, until none is."""
    bar.start(EpisodeCounts.of(finished.summaries.values()))
    place, executor = finished.folder.path.absolute(), None
    try:
        while todo := _missing(recipe, finished.summaries):
            task = FileTask(job, registered, place, todo, min(workers, len(todo)))
            # kept for later rounds: starting processes takes longer than a few replacements
            if executor is None:
                executor = choose_executor(
                    None, workers, task.count, place, needs_main=registered.needs_main
                )
            finished.run(task, executor, task.count, bar)
            assert all(i in finished.summaries for i in todo)
    except TooFewSuccesses:
        finished.folder.remove()  # the same attempts would fail again
        raise
    finally:  # after Ctrl-C too: workers must not write to a folder that is unlocked
        if executor is not None:
            executor.close()
        kept_worker.close()


def _missing(recipe: Recipe, finished: Mapping[int, EpisodeSummary]) -> list[int]:
    """Return the episodes to run next; [] once the dataset is determined.

    The dataset is the first n kept episodes in order of index, so attempts beyond them do no harm. Their
    number is estimated from the success rate so far.
    """
    wanted = recipe.n_episodes
    # A killed run leaves holes: every episode before the last attempt has to be known.
    attempts = max(wanted, max(finished, default=-1) + 1)
    holes = [i for i in range(attempts) if i not in finished]
    if holes:
        return holes
    kept = sum(f.kept for f in finished.values())
    limit = most_attempts(recipe, wanted)
    if kept >= wanted:
        return []
    if attempts >= limit:
        successes = sum(f.success for f in finished.values())
        diverged = sum(f.diverged for f in finished.values())
        raise too_few(recipe, wanted, len(finished), successes, diverged)
    # one success and one attempt more than seen: the rate is never 0
    rate = (kept + 1) / (attempts + 1)
    more = math.ceil((wanted - kept) / rate)
    return list(range(attempts, min(attempts + more, limit)))
