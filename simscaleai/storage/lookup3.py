"""Checksums of HDF5's headers: Bob Jenkins' lookup3, over many rows of bytes at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from simscaleai.storage.header_columns import Bytes

Word: TypeAlias = Any
"""A 32-bit word as an integer, or that of many headers as an array of uint64."""


def lookup3_checksums(rows: Bytes) -> Bytes:
    """Return the checksum (n, 4) of each row of bytes: Bob Jenkins' lookup3, as HDF5 has it."""
    count, length = rows.shape
    padded = np.zeros((count, -(-length // 12) * 12), np.uint8)
    padded[:, :length] = rows
    words = padded.view("<u4").astype(np.uint64)  # (n, 3 * blocks)
    if count == 1:  # Python's integers are faster than arrays of one
        found = np.array([_lookup3(words[0].tolist(), length)], np.uint64)
    else:
        found = _lookup3(list(words.T), length)
    return found.astype("<u4").view(np.uint8).reshape(count, 4)


_MASK = 0xFFFFFFFF


def _lookup3(words: Sequence[Word], length: int) -> Word:
    """Return the hash of little-endian words, three to a block, whose last block is padded with zeros.

    Source: lookup3.c, Bob Jenkins, May 2006, public domain (`hashlittle`).
    """
    start = (0xDEADBEEF + length) & _MASK
    a = b = c = words[0] * 0 + start
    for i in range(0, len(words) - 3, 3):
        a, b, c = (a + words[i]) & _MASK, (b + words[i + 1]) & _MASK, (c + words[i + 2]) & _MASK
        a = ((a - c) & _MASK) ^ _rotated(c, 4)
        c = (c + b) & _MASK
        b = ((b - a) & _MASK) ^ _rotated(a, 6)
        a = (a + c) & _MASK
        c = ((c - b) & _MASK) ^ _rotated(b, 8)
        b = (b + a) & _MASK
        a = ((a - c) & _MASK) ^ _rotated(c, 16)
        c = (c + b) & _MASK
        b = ((b - a) & _MASK) ^ _rotated(a, 19)
        a = (a + c) & _MASK
        c = ((c - b) & _MASK) ^ _rotated(b, 4)
        b = (b + a) & _MASK
    a, b, c = (a + words[-3]) & _MASK, (b + words[-2]) & _MASK, (c + words[-1]) & _MASK
    c = ((c ^ b) - _rotated(b, 14)) & _MASK
    a = ((a ^ c) - _rotated(c, 11)) & _MASK
    b = ((b ^ a) - _rotated(a, 25)) & _MASK
    c = ((c ^ b) - _rotated(b, 16)) & _MASK
    a = ((a ^ c) - _rotated(c, 4)) & _MASK
    b = ((b ^ a) - _rotated(a, 14)) & _MASK
    return ((c ^ b) - _rotated(b, 24)) & _MASK


def _rotated(word: Word, bits: int) -> Word:
    """Return 32-bit words rotated to the left."""
    return ((word << bits) | (word >> (32 - bits))) & _MASK
