"""All randomness: pure functions of (seed, stream, index).

Nothing here is advanced by use. Episode `index` of seed `s` draws from `generator(s, stream, index)`
whatever ran before it, in whatever process or batch row; each stream (where things start, physics
randomization, exploration, ...) is independent, so that switching one on leaves the others alone.
"""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, stream: str, index: int = 0) -> np.random.Generator:
    """A fresh generator for the `index`-th thing of a named stream.

    Args:
      seed: any non-negative integer; 0 is a seed.
      stream: what the numbers are for, such as "task" or "randomization".
      index: which episode, epoch or worker.
    """
    key = (zlib.crc32(stream.encode()), index)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


def derive_seed(seed: int, stream: str, index: int = 0) -> int:
    """A 63-bit seed for a library that takes an integer, such as PyTorch."""
    return int(generator(seed, stream, index).integers(2**63))
