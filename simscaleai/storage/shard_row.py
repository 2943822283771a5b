"""One row of a manifest: what it says of one shard; see `manifest`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import BoolArray, IntArray
from simscaleai.storage.array_statistics import ArrayStatistics

# nothing but digits between the fixed parts, so that a name cannot lead out of the folder
_SHARD = re.compile(r"shard-\d{5,9}\.h5")
SplitStatistics = dict[str, dict[str, ArrayStatistics]]
"""{"train" or "valid": {key of a vector: its statistics}}; a split without steps is left out."""
ArrayShapes = dict[str, tuple[list[int], str]]
"""{key: (shape of a step, dtype)}, as JSON values."""


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05d}.h5"


def shard_number(name: str) -> int | None:
    """Return the number in the file name of a shard; None for another name."""
    return int(name[6:-3]) if _SHARD.fullmatch(name) else None


@dataclass(frozen=True, eq=False)
class ShardRow:
    """What the manifest says of one shard.

    Attributes:
      shard: file name.
      lengths, seeds, successes: (episodes,) of its episodes, in order.
      instructions: one of each episode.
      valid: (episodes,) bool, which are for validation; the others are for training.
      nbytes, sha256: of the file.
      digests: `DIGEST_BYTES` for each episode, from which the content hash of the dataset is made.
      statistics: of its vectors.
      reward: sum over all steps.
      attempts, attempt_successes, diverged: episodes that were run to make it, those that succeeded, and
        those whose physics became unstable.
      arrays: shapes of its arrays; not written with the row, as they are the same for all.
      index_offset, index_bytes: where the table of the file's chunks is (`storage.index`); 0 bytes for none.
    """

    shard: str
    lengths: IntArray
    seeds: NDArray[np.uint64]
    successes: BoolArray
    instructions: list[str]
    valid: BoolArray
    nbytes: int
    sha256: str
    digests: bytes
    statistics: SplitStatistics = field(default_factory=dict)
    reward: float = 0.0
    attempts: int = 0
    attempt_successes: int = 0
    diverged: int = 0
    index_offset: int = 0
    index_bytes: int = 0
    arrays: ArrayShapes = field(default_factory=dict)
