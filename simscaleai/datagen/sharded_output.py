"""Data generation into a folder of shards: which are missing, have them made, write the manifest.

    statistics = generate_shards(task, executor, resume=True, overwrite=False, show=False)

Promises:

- A shard is there whole or not at all, and the manifest lists only shards that are there. While shards arrive
  it is written again and again, so that what is finished can be used already.
- `resume=True` makes the shards that are missing, cut short or damaged, and no others.
- Nothing in the folder is deleted but shards and the manifest, and those only with `overwrite=True`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from simscaleai.datagen.progress_bar import EpisodeCounts, ProgressBar
from simscaleai.datagen.shard_maker import make_shard
from simscaleai.datagen.shard_task import ShardTask
from simscaleai.datagen.shards_in_progress import ShardsInProgress
from simscaleai.datagen.worker import kept_worker
from simscaleai.executors import Executor
from simscaleai.json_types import JsonDict
from simscaleai.storage.disk import name_disk_errors
from simscaleai.storage.lock import FolderLock
from simscaleai.storage.shard_row import ShardRow


def generate_shards(
    task: ShardTask, executor: Executor, *, resume: bool, overwrite: bool, show: bool
) -> JsonDict:
    """Make the shards of a dataset that are missing; return its statistics.

    Returns:
      {"total_episodes", ..., "content_hash", "shards", "resumed_episodes"}; see `generate_dataset`.

    Raises:
      ExistingFileError: the folder holds a dataset, without `resume` and `overwrite`.
      UserError: it holds other things, or a dataset of other settings; or a shard cannot be made.
      Interrupted: Ctrl-C.
    """
    output = ShardsInProgress(task)
    output.check(resume=resume, overwrite=overwrite)
    lock = FolderLock(task.folder, "generating", str(task.folder))
    # the lock is a file in the folder: this is the first write, and the first that may fail
    with name_disk_errors(task.folder):
        lock.take()
    try:
        output.open(resume=resume, overwrite=overwrite)
        resumed = sum(len(row.lengths) for row in output.rows.values())
        with output.kept(), ProgressBar(task.recipe.n_episodes, show=show) as bar:
            output.write()  # says what is being made, for --resume
            bar.start(_counts(output.rows.values()))
            missing = [j for j in range(task.count) if j not in output.rows]
            try:
                for row in executor.run(partial(make_shard, task), missing):
                    output.add(row)
                    bar.add(_counts([row]))
            finally:  # after Ctrl-C too: workers must not write to a folder that is unlocked
                executor.close()
                kept_worker.close()
            bar.writing()
            statistics = output.finish()
    finally:
        lock.release()
    return {**statistics, "resumed_episodes": resumed}


def _counts(rows: Iterable[ShardRow]) -> EpisodeCounts:
    each = [(row.attempts, row.attempt_successes, len(row.lengths)) for row in rows]
    return EpisodeCounts(*map(sum, zip(*each, strict=True)))
