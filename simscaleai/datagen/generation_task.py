"""The shards of a generated dataset: simulate, draw, encode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from simscaleai.datagen.attempts import attempt_seed, most_attempts, too_few
from simscaleai.datagen.job import Job
from simscaleai.datagen.recipe import Recipe
from simscaleai.datagen.shard_file import split_part
from simscaleai.datagen.shard_task import ShardTask
from simscaleai.datagen.worker import kept_worker
from simscaleai.json_types import JsonDict
from simscaleai.storage.episode import Episode, split_episodes
from simscaleai.storage.shard_row import ShardRow


@dataclass(frozen=True)
class GenerationTask(ShardTask):
    """Generates the shards of a dataset.

    Attributes:
      job: what runs the episodes.
      recipe: what decides the content.
    """

    job: Job
    recipe: Recipe
    verb = "generating"

    @property
    def n_episodes(self) -> int:
        return self.recipe.n_episodes

    @property
    def settings(self) -> JsonDict:
        return self.recipe.to_dict()

    def splits(self, number: int) -> dict[str, list[int]]:
        recipe = self.recipe
        whole = split_episodes(recipe.n_episodes, recipe.seed, recipe.valid_fraction)
        return split_part(whole, self.indices(number))

    def max_steps(self, number: int) -> int:
        return self.recipe.max_steps

    def episodes(self, number: int, counts: dict[str, int]) -> Iterator[tuple[int, Episode]]:
        """Run the episodes of a shard; yield (position in it, episode) as they end, and count attempts."""
        job, recipe, indices = self.job, self.recipe, self.indices(number)
        worker = kept_worker.get(job)
        texts = {k: getattr(recipe, k) for k in ("policy", "mujoco_version", "model_sha256")}
        waiting: Sequence[int] = indices
        attempt = 0
        while waiting:
            # a policy that never succeeds must end, and not run forever
            if counts["attempts"] >= most_attempts(recipe, len(indices)):
                raise too_few(recipe, len(indices), *counts.values())
            left_out = []
            # of episode and attempt alone: the other episodes of the shard change nothing
            seeds = [attempt_seed(recipe.seed, index, attempt) for index in waiting]
            for finished in worker.episodes(waiting, seeds):
                for episode in finished:
                    counts["attempts"] += 1
                    counts["attempt_successes"] += int(episode.success)
                    counts["diverged"] += int(episode.diverged)
                    if job.wants(episode):
                        yield episode.index - indices.start, replace(episode, **texts)
                    else:
                        left_out.append(episode.index)
            waiting, attempt = sorted(left_out), attempt + 1

    def statistics(self, rows: Sequence[ShardRow]) -> JsonDict:
        """Return statistics of all attempts."""
        attempts = sum(row.attempts for row in rows)
        return {
            "attempts": attempts,
            "attempt_success_rate": sum(row.attempt_successes for row in rows) / max(attempts, 1),
            "diverged": sum(row.diverged for row in rows),
        }
