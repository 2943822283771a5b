"""Make one shard of a dataset: simulate, draw, encode, write, sync, rename.

    row = make_shard(task, 7)          # writes data/big/shard-00007.h5, whole or not at all

Shard j holds the episodes [j * m, (j + 1) * m). It is a function of the task and j alone, so that any
process on any machine that sees the folder may make it, at any time and more than once. Frames never
travel: what comes back is the shard's row of the manifest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from simscaleai.contract import EnvContract
from simscaleai.datagen.attempts import attempt_seed, most_attempts, too_few
from simscaleai.datagen.shard_contents import ShardContents
from simscaleai.datagen.shard_file import COUNTS, shard_row, write_shard_file
from simscaleai.datagen.shard_task import ShardTask
from simscaleai.datagen.worker import kept_worker
from simscaleai.errors import UserError
from simscaleai.observations import is_image
from simscaleai.sim.factory import gym_id
from simscaleai.storage.episode import LABELS, OBS, Episode
from simscaleai.storage.episode_file import open_file
from simscaleai.storage.shard_row import ShardRow, shard_name


def make_shard(task: ShardTask, number: int) -> ShardRow:
    """Make shard `number` and return its row.

    Raises:
      UserError: the folder is gone, the disk is full, or too few episodes can be used.
    """
    task.registered.register()  # the user's own environments, in a process that has not run the script
    path = task.folder / shard_name(number)
    # not created here: a mount that is gone would be written to the disk below it
    if not task.folder.is_dir():
        raise UserError(
            f"The folder {task.folder} is gone; start again, or mount it again and resume."
        )
    counts, recipe = dict.fromkeys(COUNTS, 0), task.recipe
    return write_shard_file(
        path,
        _episodes(task, number, counts),
        EnvContract.from_dict(recipe.environment),
        task.splits(number),
        env_id=gym_id(recipe.environment["env_name"]),
        attributes={"recipe": recipe.to_json()},
        max_steps=recipe.max_steps,
        counts=counts,
    )


def read_row(path: Path, recipe: str | None = None) -> ShardRow:
    """Return the row of a shard that is there, by reading all of it but the images.

    Raises:
      UserError: it is damaged, or was made by another recipe (JSON text) than the given one.
    """
    contents = ShardContents()
    with open_file(path, use_index=False) as file:
        if recipe is not None and file.attribute("recipe") != recipe:
            raise UserError(f"{path} belongs to another dataset.")
        for i, about in enumerate(file.episodes):
            reward = float(np.sum(file.read(i, "rewards"), dtype=np.float64))
            seed, success = int(about.seed or 0), bool(about.success)
            contents.episodes[i] = (about.length, seed, success, about.language, reward)
            for key in file.keys(i):
                step_shape, dtype = file.shape(i, key)[1:], file.dtype(i, key)
                if key != LABELS and is_image(key.removeprefix(OBS), step_shape, dtype):
                    contents.arrays[key] = list(step_shape), dtype.name
                else:
                    contents.add_array(i, key, file.read(i, key))
        digests = [file.digest(i) for i in range(len(file))]
        found = json.loads(file.attribute("statistics", "{}"))
        counts = {name: int(found.get(name, 0)) for name in COUNTS}
        splits = {name: file.split(name) for name in ("train", "valid")}
    with open_file(path) as file:
        return shard_row(path, splits, contents, digests, counts, file.index_place)


def _episodes(
    task: ShardTask, number: int, counts: dict[str, int]
) -> Iterator[tuple[int, Episode]]:
    """Run the episodes of a shard; yield (position in it, episode) as they end, and count attempts."""
    job, recipe = task.job, task.recipe
    worker = kept_worker.get(job)
    texts = {k: getattr(recipe, k) for k in ("policy", "mujoco_version", "model_sha256")}
    waiting: Sequence[int] = task.indices(number)
    wanted, attempt = len(waiting), 0
    while waiting:
        # a policy that never succeeds must end, and not run forever
        if counts["attempts"] >= most_attempts(recipe, wanted):
            raise too_few(recipe, wanted, *counts.values())
        left_out = []
        # of episode and attempt alone: the other episodes of the shard change nothing
        seeds = [attempt_seed(recipe.seed, index, attempt) for index in waiting]
        for finished in worker.episodes(waiting, seeds):
            for episode in finished:
                counts["attempts"] += 1
                counts["attempt_successes"] += int(episode.success)
                counts["diverged"] += int(episode.diverged)
                if job.wants(episode):
                    position = episode.index - task.indices(number).start
                    yield position, replace(episode, **texts)
                else:
                    left_out.append(episode.index)
        waiting, attempt = sorted(left_out), attempt + 1
