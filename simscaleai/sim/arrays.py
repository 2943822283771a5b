"""Small array functions whose results do not depend on the number of envs, for any array library.

The branches for NumPy are shortcuts on the hot path, where arrays are small and calls cost most.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import array_api_compat
import numpy as np

Array = Any
"""NumPy array, or tensor of another library that follows the array API; no common type of them exists."""


def array_namespace(x: Array) -> ModuleType:
    """Return the array-API module of `x`; NumPy 2 is one itself, which saves a look-up."""
    if isinstance(x, np.ndarray):
        return np
    namespace: ModuleType = array_api_compat.array_namespace(x)
    return namespace


def like(value: Array, x: Array) -> Array:
    """Return `value`, a NumPy constant, as an array of the library and on the device of `x`."""
    if isinstance(x, np.ndarray):
        return value
    return array_namespace(x).asarray(value, device=array_api_compat.device(x))


def float32(x: Array) -> Array:
    """Return a float32 copy."""
    if isinstance(x, np.ndarray):
        return x.astype(np.float32)
    xp = array_namespace(x)
    return xp.astype(x, xp.float32, copy=True)


def number(flag: Array) -> Array:
    """Return 1.0 where `flag` holds and 0.0 elsewhere, float64."""
    if isinstance(flag, np.ndarray):
        return flag.astype(np.float64)
    xp = array_namespace(flag)
    return xp.astype(flag, xp.float64)


def copied(x: Array) -> Array:
    """Return a copy, which outlives the next step."""
    return x.copy() if isinstance(x, np.ndarray) else array_namespace(x).asarray(x, copy=True)


def largest(x: Array) -> Array:
    """Return the largest number of each row, (n, 1) for x (n, d)."""
    if isinstance(x, np.ndarray):
        return x.max(axis=-1, keepdims=True)  # half the time of the function of the same name
    return array_namespace(x).max(x, axis=-1, keepdims=True)


def any_true(flag: Array) -> bool:
    """Return whether any entry of `flag` holds."""
    if isinstance(flag, np.ndarray):
        return bool(np.count_nonzero(flag))  # several times as fast as `any` on small arrays
    return bool(array_namespace(flag).any(flag))


def all_true(flag: Array) -> Array:
    """Return whether all entries of each row hold, (n,) for flags (n, d)."""
    if isinstance(flag, np.ndarray):
        return flag.all(axis=-1)  # half the time of the function of the same name
    return array_namespace(flag).all(flag, axis=-1)


def columns(*parts: Array) -> Array:
    """Return (n, sum of d) from arrays (n,), which are one column, and (n, d)."""
    xp = array_namespace(parts[0])
    return xp.concat([part if part.ndim == 2 else part[:, None] for part in parts], axis=1)


def norm(x: Array) -> Array:
    """Return the lengths (n,) of vectors (n, d)."""
    xp = array_namespace(x)
    return xp.sqrt(xp.vecdot(x, x))


def clip(x: Array, low: Array, high: Array) -> Array:
    """Return x clipped to two bounds; cheaper on small arrays than a library's own `clip`."""
    xp = array_namespace(x)
    return xp.minimum(xp.maximum(x, low), high)


def closeness(distance: Array, scale: float) -> Array:
    """Return 1 at distance 0, 1/2 at `scale` and nearly 0 far away: smooth, and steep only near the goal."""
    ratio = distance / scale
    return 1.0 / (1.0 + ratio * ratio)
