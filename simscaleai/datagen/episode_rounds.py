"""Run the episodes that a dataset misses, in rounds, until it is determined."""

from __future__ import annotations

import math
from collections.abc import Mapping

from simscaleai.datagen.attempts import TooFewSuccesses, most_attempts, too_few
from simscaleai.datagen.progress_bar import ProgressBar
from simscaleai.datagen.recipe import Recipe
from simscaleai.datagen.shards import EpisodeSummary, ShardFolder
from simscaleai.datagen.worker_pool import Job, Worker, WorkerPool


def run_rounds(
    job: Job, recipe: Recipe, workers: int, folder: ShardFolder, bar: ProgressBar
) -> dict[int, EpisodeSummary]:
    """Run the missing episodes in rounds; return the summaries of all finished ones."""
    finished = folder.finished()
    bar.start(finished.values())
    pool: Worker | WorkerPool | None = None
    try:
        while todo := _missing(recipe, finished):
            # kept for later rounds: starting processes takes longer than a few replacements
            if pool is None:
                crew = min(workers, len(todo))
                pool = Worker(job) if crew == 1 else WorkerPool(job, crew)
            pool.run(todo, bar.add)
            finished = folder.finished()
            assert all(i in finished for i in todo)
    except TooFewSuccesses:
        folder.remove()  # the same attempts would fail again
        raise
    finally:
        if pool is not None:
            pool.close()
    return finished


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
