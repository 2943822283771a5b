"""Write or read the file of one shard, and make its row of the manifest."""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simscaleai.contract import EnvContract
from simscaleai.datagen.shard_contents import ShardContents
from simscaleai.errors import UserError
from simscaleai.observations import is_image
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.episode import LABELS, OBS, Episode
from simscaleai.storage.episode_file import open_file
from simscaleai.storage.episode_writer import EpisodeWriter, fits_raw
from simscaleai.storage.shard_row import ShardRow
from simscaleai.storage.split_masks import SPLITS

COUNTS = ("attempts", "attempt_successes", "diverged")
"""Of the episodes that were run to make a shard; in its file too, so that it yields its row again."""


def write_shard_file(
    path: Path,
    episodes: Iterable[tuple[int, Episode]],
    contract: EnvContract | None,
    splits: Mapping[str, Sequence[int]],
    *,
    env_id: str | None,
    attributes: Mapping[str, Any],
    max_steps: int,
    counts: Mapping[str, int] | None = None,
) -> ShardRow:
    """Write a shard, whole or not at all, and return its row.

    Args:
      path: of the file.
      episodes: (position in the shard, episode), in any order.
      contract: the environment that made the episodes; None if it is not known.
      splits: {"train" or "valid": positions in the shard}.
      env_id: the environment's name for Gymnasium; None for that of the contract.
      attributes: further attributes of the file.
      max_steps: the most steps of an episode.
      counts: of `COUNTS`, read after the last episode; zeros where nothing was run.
    """
    contents = ShardContents()
    count = sum(len(positions) for positions in splits.values())
    with atomic_path(path) as temporary:
        writer = EpisodeWriter(
            temporary,
            contract,
            raw=contract is not None and fits_raw(contract, count, max_steps),
            splits=splits,
            env_id=env_id,
            attributes=attributes,
        )
        with writer:
            writer.add_all(_noted(episodes, contents))
            counted = dict.fromkeys(COUNTS, 0) | dict(counts or {})
            writer.set_attribute("statistics", json.dumps(counted))
    return shard_row(path, splits, contents, writer.digests, counted, writer.index_place)


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


def split_part(whole: Mapping[str, Sequence[int]], indices: range) -> dict[str, list[int]]:
    """Return the part of a split that a shard of the episodes `indices` has, by positions in the shard.

    Args:
      whole: {"train" or "valid": positions in the dataset, sorted}.
      indices: consecutive positions in the dataset.
    """
    first, stop = indices.start, indices.stop
    own = {}
    for name in SPLITS:
        positions = whole.get(name, ())
        there = positions[bisect_left(positions, first) : bisect_left(positions, stop)]
        own[name] = [i - first for i in there]
    return own


def shard_row(
    path: Path,
    splits: Mapping[str, Sequence[int]],
    contents: ShardContents,
    digests: Sequence[str],
    counts: Mapping[str, int],
    index_place: tuple[int, int],
) -> ShardRow:
    """Return the row of a finished shard."""
    about = [contents.episodes[i] for i in range(len(contents.episodes))]
    lengths, seeds, successes, instructions, rewards = zip(*about, strict=True)
    valid = np.zeros(len(about), bool)
    valid[list(splits["valid"])] = True
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


def _noted(
    episodes: Iterable[tuple[int, Episode]], contents: ShardContents
) -> Iterator[tuple[int, Episode]]:
    """Pass episodes on, and note what the row of the shard needs of them."""
    for position, episode in episodes:
        contents.add(position, episode)
        yield position, episode
