"""Random numbers as pure functions of (seed, stream, index).

Nothing here is advanced by use. Episode `index` of seed `s` draws from `generator(s, stream, index)`
whatever ran before it, in whatever process or env of a batch; each stream (initial states, physics
randomization, exploration, ...) is independent, so that switching one on leaves the others alone.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from simscaleai.convert import convert
from simscaleai.errors import UserError

SEED_LIMIT = 2**63
"""Seeds of episodes are below it, so that they fit in int64 arrays."""


def generator(seed: int, stream: str, index: int = 0) -> np.random.Generator:
    """Return a fresh generator for the `index`-th thing of a named stream.

    Args:
      seed: any non-negative integer; 0 is a seed.
      stream: what the numbers are for, such as "task" or "randomization".
      index: which episode, epoch or worker.
    """
    key = (zlib.crc32(stream.encode()), index)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


def derive_seed(seed: int, stream: str, index: int = 0) -> int:
    """Return a 63-bit seed for a library that takes an integer, such as PyTorch."""
    return int(generator(seed, stream, index).integers(2**63))


def fresh_seed(n: int = 1) -> int:
    """Return the first of `n` consecutive random seeds below `SEED_LIMIT`, for a caller that gave none."""
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0]) % (SEED_LIMIT - n + 1)


def check_seed(seed: Any, count: int = 1) -> int:
    """Return `seed`, the first of `count` consecutive ones, as a Python integer.

    Raises:
      UserError: it is not a whole number, or one of them is not in [0, `SEED_LIMIT`).
    """
    value: int = convert(seed, int, "The seed")
    if not 0 <= value <= SEED_LIMIT - count:
        raise UserError(f"The seed is {value}; it must be between 0 and 2**63 - {count}.")
    return value
