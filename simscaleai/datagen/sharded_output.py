"""Make a dataset as a folder of shards: which are missing, have them made, write the manifest.

    statistics, made = make_shards(task, executor, resume=True, overwrite=False, show=False)

Promises:

- A shard is there whole or not at all, and the manifest lists only shards that are there. While shards arrive
  it is written again and again, so that what is finished can be used already.
- `resume=True` makes the shards that are missing, cut short or damaged, and no others.
- Nothing in the folder is deleted but shards and the manifest, and those only with `overwrite=True`.
"""

from __future__ import annotations

from collections.abc import Iterable

from simscaleai.datagen.progress_bar import EpisodeCounts, ProgressBar
from simscaleai.datagen.shard_task import ShardTask
from simscaleai.datagen.shards_in_progress import ShardsInProgress
from simscaleai.executors import Executor
from simscaleai.json_types import JsonDict
from simscaleai.storage.disk import name_disk_errors
from simscaleai.storage.lock import FolderLock
from simscaleai.storage.shard_row import ShardRow


def make_shards(
    task: ShardTask, executor: Executor, *, resume: bool, overwrite: bool, show: bool
) -> tuple[JsonDict, list[ShardRow]]:
    """Make the shards of a dataset that are missing.

    Returns:
      ({"total_episodes", ..., "shards", "content_hash", "file_size_mb"}, the rows of the shards that were
      made); the statistics are of all shards.

    Raises:
      ExistingFileError: the folder holds a dataset, without `resume` and `overwrite`.
      UserError: it holds other things, or a dataset of other settings; or a shard cannot be made.
      Interrupted: Ctrl-C.
    """
    output, made = ShardsInProgress(task), []
    output.check(resume=resume, overwrite=overwrite)
    lock = FolderLock(task.folder, task.verb, str(task.folder))
    # the lock is a file in the folder: this is the first write, and the first that may fail
    with name_disk_errors(task.folder):
        lock.take()
    try:
        output.open(resume=resume, overwrite=overwrite)
        with output.kept(), ProgressBar(task.n_episodes, show=show) as bar:
            output.write()  # says what is being made, for --resume
            bar.start(_counts(output.rows.values()))
            missing = [j for j in range(task.count) if j not in output.rows]
            try:
                for row in executor.run(task, missing):
                    output.add(row)
                    made.append(row)
                    bar.add(_counts([row]))
            finally:  # after Ctrl-C too: workers must not write to a folder that is unlocked
                executor.close()
            bar.writing()
            return output.finish(), made
    finally:
        lock.release()


def _counts(rows: Iterable[ShardRow]) -> EpisodeCounts:
    each = [_counts_of(row) for row in rows]
    return EpisodeCounts(*map(sum, zip(*each, strict=True)))


def _counts_of(row: ShardRow) -> EpisodeCounts:
    count = len(row.lengths)
    if row.attempts == 0:  # nothing was simulated
        return EpisodeCounts(count, int(row.successes.sum()), count)
    return EpisodeCounts(row.attempts, row.attempt_successes, count)
