"""Small array functions that every backend and every number of rows computes alike, bit by bit."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import array_api_compat
import numpy as np
from numpy.typing import NDArray

Array = Any
"""A NumPy array, or a tensor of another library that follows the array API."""


def array_namespace(x: Array) -> ModuleType:
    """The array-API module of `x`; NumPy 2 is one itself, which saves a look-up on the hot path."""
    if isinstance(x, np.ndarray):
        return np
    namespace: ModuleType = array_api_compat.array_namespace(x)
    return namespace


def float32(x: NDArray[Any]) -> NDArray[np.float32]:
    """A float32 copy."""
    return x.astype(np.float32)


def norm(x: Array) -> Array:
    """Lengths (n,) of vectors (n, d)."""
    xp = array_namespace(x)
    return xp.sqrt(xp.vecdot(x, x))


def clip(x: Array, low: Array, high: Array) -> Array:
    """x between two bounds; cheaper on small arrays than a library's own `clip`."""
    xp = array_namespace(x)
    return xp.minimum(xp.maximum(x, low), high)


def closeness(distance: Array, scale: float) -> Array:
    """1 at distance 0, 1/2 at `scale`, towards 0 far away; smooth, and steep only near the goal."""
    ratio = distance / scale
    return 1.0 / (1.0 + ratio * ratio)
