"""Run the missing episodes of a file in chunks, and write them to parts where they are run.

    for _ in executor.run(task, range(task.count)):      # any executor
        ...

Nothing travels back: what is finished is in the folder of the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from simscaleai.datagen.job import Job
from simscaleai.datagen.progress_bar import EpisodeCounts
from simscaleai.datagen.recipe import episode_seed
from simscaleai.datagen.shards import ShardWriter
from simscaleai.datagen.worker import kept_worker
from simscaleai.rollout.registered import Registered

# Rounds of `num_envs` episodes in a chunk. At its end envs are idle, which few chunks make rare; a worker
# that is killed repeats its chunk, which a short one makes cheap.
_ROUNDS = 2


@dataclass(frozen=True)
class FileTask:
    """Runs the chunks of a file's missing episodes; it travels to workers.

    Attributes:
      job: what runs the episodes.
      registered: what the caller has registered and the job needs.
      folder: where parts are written, an absolute path.
      missing: indices of the episodes to run.
      workers: processes among which they are divided.
    """

    job: Job
    registered: Registered
    folder: Path
    missing: Sequence[int]
    workers: int

    @property
    def count(self) -> int:
        """Number of chunks: as many for each worker, so that all end at about the same time."""
        largest = self.workers * _ROUNDS * self.job.num_envs
        return min(len(self.missing), self.workers * -(-len(self.missing) // largest))

    def chunk(self, item: int) -> Sequence[int]:
        """Return the episodes of a chunk; chunks differ by one episode at most."""
        start, stop = (len(self.missing) * k // self.count for k in (item, item + 1))
        return self.missing[start:stop]

    def __call__(
        self, item: int, report: Callable[[EpisodeCounts], None] = lambda counts: None
    ) -> None:
        """Run a chunk in this process; finished episodes are saved after an error too.

        `report` is called with each of them.
        """
        self.registered.register()
        job, indices = self.job, self.chunk(item)
        pending = ShardWriter(self.folder, job.wants)
        seeds = [episode_seed(job.seed, index) for index in indices]
        try:
            for finished in kept_worker.get(job).episodes(indices, seeds):
                for episode in finished:
                    pending.add(episode)
                    report(EpisodeCounts(1, int(episode.success), int(job.wants(episode))))
        finally:
            pending.flush()
