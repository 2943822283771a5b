"""What an observation is made of, and the only place that flattens one.

An observation is a dict {key: array}. Its vectors, concatenated in sorted order, are its `state`, which
models and agents learn from. Pictures are told from vectors by their shape (`is_picture`), whatever they are
called. The same functions serve NumPy arrays and torch tensors, single observations and batches: only the
last axis is touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from simscaleai.errors import UserError

MAX_RANK = 8
IMAGE_PREFIXES = ("images/", "depth/", "segmentation/")
_CHANNELS = (1, 3, 4)
_MOST_ROWS = 8  # of a matrix that is a pose or the like


def is_image_key(key: str) -> bool:
    """Whether environments give a picture by this name: `image`, `images/<camera>`, `depth/<camera>`, ..."""
    return key == "image" or key.startswith(IMAGE_PREFIXES)


def is_picture(key: str, shape: Sequence[int], dtype: Any) -> bool:
    """Whether rows of this shape are pictures, and not vectors or matrices of real numbers."""
    if len(shape) != 2:
        return len(shape) > 2
    return is_image_key(key) or np.dtype(dtype).kind in "iu"


def state_problem(key: str, shape: Sequence[int]) -> str | None:
    """Why rows that are no pictures cannot be part of the state, as part of a sentence; None if they can."""
    if len(shape) < 2 or min(shape) <= _MOST_ROWS:
        return None
    return (
        f"the observation {key!r} has rows of {tuple(shape)} real numbers, too many for a state, and is no"
        " picture"
    )


def picture_problem(key: str, shape: Sequence[int], dtype: Any) -> str | None:
    """Why a model cannot read rows of this shape as pictures, as part of a sentence; None if it can."""
    shape, dtype = tuple(shape), np.dtype(dtype)
    if len(shape) == 3 and dtype == np.uint8 and shape[2] in _CHANNELS:
        return None
    first = len(shape) == 3 and shape[0] in _CHANNELS and shape[2] not in _CHANNELS
    why = ", channels first" if first else ""
    return (
        f"{key!r} is {dtype} {shape}{why}, and pictures are uint8 (height, width, channels) with 1, 3 or 4"
        " channels"
    )


@dataclass(frozen=True)
class ObsSpec:
    """Shapes and dtypes of one environment's observation, keys in sorted order."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]

    @classmethod
    def of(cls, obs: Mapping[str, Any], *, batched: bool = False) -> ObsSpec:
        """The spec of an example; with `batched`, the leading axis is left out."""
        keys = sorted(obs)
        skip = 1 if batched else 0
        return cls(
            {k: tuple(int(s) for s in np.shape(obs[k])[skip:]) for k in keys},
            {k: str(obs[k].dtype) for k in keys},
        )

    @classmethod
    def from_saved(cls, about: Mapping[str, Any]) -> ObsSpec:
        """The spec that a checkpoint tells of, in "obs_shapes" and "obs_dtypes"; UserError if it is none."""
        return cls(*read_shapes(about.get("obs_shapes"), about.get("obs_dtypes")))

    @property
    def state_keys(self) -> list[str]:
        """The keys that make up `state`, in order."""
        return [k for k in self.shapes if not self._is_picture(k)]

    @property
    def image_keys(self) -> list[str]:
        """The keys that hold pictures, in order."""
        return [k for k in self.shapes if self._is_picture(k)]

    def _is_picture(self, key: str) -> bool:
        return is_picture(key, self.shapes[key], self.dtypes.get(key, np.float32))

    @property
    def state_dim(self) -> int:
        return sum(math.prod(self.shapes[k]) for k in self.state_keys)


def read_shapes(shapes: Any, dtypes: Any) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """{key: shape} and {key: dtype} as a file has them; UserError where they are not that."""
    for name, values in (("obs_shapes", shapes), ("obs_dtypes", dtypes)):
        if not isinstance(values, Mapping) or any(not isinstance(key, str) for key in values):
            raise UserError(f"{name} is no mapping of observations; the file is damaged.")
    for key, shape in shapes.items():
        sizes = shape if isinstance(shape, list | tuple) else [None]
        if len(sizes) > MAX_RANK or any(type(n) is not int or not 0 <= n < 2**31 for n in sizes):
            raise UserError(
                f"The shape of observation {key!r} is no list of sizes; the file is damaged."
            )
    if wrong := [key for key, name in dtypes.items() if not isinstance(name, str)]:
        raise UserError(f"The dtype of observation {wrong[0]!r} is no name; the file is damaged.")
    return {k: tuple(v) for k, v in shapes.items()}, dict(dtypes)


def observation_parts(obs: Any) -> dict[str, Any]:
    """Return the leaves of an observation of any structure by name.

    Args:
      obs: dicts and tuples of observations, whose leaves are named by the way to them, as "robot/q" or, in
        a tuple, "0", "1", ...; or one array, which is "state".
    """
    if not isinstance(obs, Mapping | tuple):
        return {"state": obs}
    parts: dict[str, Any] = {}
    entries = obs.items() if isinstance(obs, Mapping) else enumerate(obs)
    for name, entry in entries:
        if isinstance(entry, Mapping | tuple):
            parts |= {f"{name}/{rest}": leaf for rest, leaf in observation_parts(entry).items()}
        else:
            parts[str(name)] = entry
    return parts


def as_array(value: Any) -> NDArray[Any]:
    """Return a number, list, array or tensor on any device as an array."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def flatten_state(obs: Mapping[str, Any], keys: list[str] | None = None) -> Any:
    """Concatenate the vector-valued entries of an observation into its state.

    Args:
      obs: {key: (..., d)} of NumPy arrays or torch tensors with equal leading axes; images are left out.
      keys: which entries, in which order; by default all that are not images, sorted.

    Returns:
      (..., sum of d), of the entries' array type.
    """
    if keys is None:
        keys = sorted(k for k in obs if not is_image_key(k))
    parts = [obs[k] for k in keys]
    return array_namespace(parts[0]).concat(parts, axis=-1)


def unflatten_state(state: Any, spec: ObsSpec) -> dict[str, Any]:
    """Cut a state (..., spec.state_dim) into {key: (..., d)}: the inverse of `flatten_state`."""
    parts: dict[str, Any] = {}
    start = 0
    for key in spec.state_keys:
        width = math.prod(spec.shapes[key])
        parts[key] = state[..., start : start + width]
        start += width
    return parts
