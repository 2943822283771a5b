"""Types of NumPy arrays that the whole package shares; `tensor_types` has those of torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""An array of any dtype."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

EnvIds = NDArray[np.intp]
"""Indices of envs among n parallel simulations."""

ArrayDict = dict[str, Array]
"""Arrays by name, such as the observations of one step: {key: (n, ...)}."""
