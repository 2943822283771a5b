"""Make one shard of a dataset: simulate, draw, encode, write, sync, rename.

    row = make_shard(task, 7)          # writes data/big/shard-00007.h5, whole or not at all

Shard j holds the episodes [j * m, (j + 1) * m). It is a function of the task and j alone, so that any
process on any machine that sees the folder may make it, at any time and more than once. Frames never
travel: what comes back is the shard's row of the manifest.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from simscaleai.contract import EnvContract
from simscaleai.datagen.attempts import attempt_seed, most_attempts, too_few
from simscaleai.datagen.shard_contents import ShardContents
from simscaleai.datagen.shard_task import ShardTask
from simscaleai.datagen.worker_pool import Job, Worker
from simscaleai.errors import UserError
from simscaleai.executors.kept import Kept
from simscaleai.observations import is_image
from simscaleai.sim.factory import gym_id
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.episode import LABELS, OBS, Episode
from simscaleai.storage.episode_file import open_file
from simscaleai.storage.episode_writer import EpisodeWriter, fits_raw
from simscaleai.storage.shard_row import ShardRow, shard_name

# In the file of each shard, so that its row can be made again by reading it.
_COUNTS = ("attempts", "attempt_successes", "diverged")
# of this process: the environment of a job serves all its shards
_worker: Kept[Job, Worker] = Kept(Worker, Worker.close)
close_worker = _worker.close
"""Close the environment that this process keeps between two shards."""


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
    contents, counts = ShardContents(), dict.fromkeys(_COUNTS, 0)
    with atomic_path(path) as temporary:
        contract = EnvContract.from_dict(task.recipe.environment)
        writer = EpisodeWriter(
            temporary,
            contract,
            raw=fits_raw(contract, task.shard_episodes, task.recipe.max_steps),
            splits=task.splits(number),
            env_id=gym_id(task.recipe.environment["env_name"]),
            attributes={"recipe": task.recipe.to_json()},
        )
        with writer:
            writer.add_all(_noted(_episodes(task, number, counts), contents))
            writer.set_attribute("statistics", json.dumps(counts))
    return _row(path, task.splits(number), contents, writer.digests, counts, writer.index_place)


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
        counts = {name: int(found.get(name, 0)) for name in _COUNTS}
        splits = {name: file.split(name) for name in ("train", "valid")}
    with open_file(path) as file:
        return _row(path, splits, contents, digests, counts, file.index_place)


def _episodes(
    task: ShardTask, number: int, counts: dict[str, int]
) -> Iterator[tuple[int, Episode]]:
    """Run the episodes of a shard; yield (position in it, episode) as they end, and count attempts."""
    job, recipe = task.job, task.recipe
    worker = _worker.get(job)
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


def _noted(
    episodes: Iterator[tuple[int, Episode]], contents: ShardContents
) -> Iterator[tuple[int, Episode]]:
    """Pass episodes on, and note what the row of the shard needs of them."""
    for position, episode in episodes:
        contents.add(position, episode)
        yield position, episode


def _row(
    path: Path,
    splits: dict[str, list[int]],
    contents: ShardContents,
    digests: Sequence[str],
    counts: dict[str, int],
    index_place: tuple[int, int],
) -> ShardRow:
    """Return the row of a finished shard."""
    about = [contents.episodes[i] for i in range(len(contents.episodes))]
    lengths, seeds, successes, instructions, rewards = zip(*about, strict=True)
    valid = np.zeros(len(about), bool)
    valid[splits["valid"]] = True
    # of the file as it is on the disk, in blocks: a shard may be larger than memory
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ShardRow(
        shard=path.name,
        lengths=np.array(lengths, np.int64),
        seeds=np.array(seeds, np.uint64),
        successes=np.array(successes, bool),
        instructions=list(instructions),
        valid=valid,
        nbytes=path.stat().st_size,
        sha256=sha256,
        digests=b"".join(map(bytes.fromhex, digests)),
        statistics=contents.statistics(splits),
        reward=math.fsum(rewards),
        arrays=dict(sorted(contents.arrays.items())),
        index_offset=index_place[0],
        index_bytes=index_place[1],
        **counts,
    )
