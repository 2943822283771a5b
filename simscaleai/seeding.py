"""Random numbers as pure functions of (seed, stream, index).

No state advances from call to call. Episode `index` of seed `s` draws from `generator(s, stream, index)`,
whatever ran before it and in whatever process or env of a batch. The streams (initial states, physics
randomization, exploration, ...) are independent, so that switching one on leaves the numbers of the others
unchanged.
"""

from __future__ import annotations

import zlib

import numpy as np

from simscaleai.convert import convert
from simscaleai.errors import UserError

SEED_LIMIT = 2**63
"""Seeds of episodes are below it, so that they fit in int64 arrays."""


def generator(seed: int, stream: str, index: int = 0) -> np.random.Generator:
    """Return a fresh generator for one index of a named stream.

    Args:
      seed: any non-negative integer; 0 is a seed.
      stream: purpose of the numbers, such as "task" or "randomization".
      index: number of the episode, epoch or worker.
    """
    # crc32, not `hash`, which differs from process to process. Philox is counter-based: a generator costs
    # microseconds to make, and one is made for every episode.
    key = (zlib.crc32(stream.encode()), index)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


def derive_seed(seed: int, stream: str, index: int = 0) -> int:
    """Return a 63-bit seed for a library that takes an integer, such as PyTorch."""
    return int(generator(seed, stream, index).integers(2**63))


def fresh_seed(n: int = 1) -> int:
    """Return the first of `n` consecutive random seeds below `SEED_LIMIT`, for a caller that gave none."""
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0]) % (SEED_LIMIT - n + 1)


def check_seed(seed: object, count: int = 1) -> int:
    """Return `seed`, the first of `count` consecutive ones, as a Python integer.

    Raises:
      UserError: it is not a whole number, or one of them is not in [0, `SEED_LIMIT`).
    """
    value: int = convert(seed, int, "The seed")
    if not 0 <= value <= SEED_LIMIT - count:
        raise UserError(f"The seed is {value}; it must be between 0 and 2**63 - {count}.")
    return value
