"""The entries of an observation, and its flattening to a state.

An observation is a dict {key: array}. Its vectors, concatenated in sorted order, are its `state`, which
models and agents learn from. Images are distinguished from vectors by their shape (`is_image`), not by
their name. The same functions serve NumPy arrays and torch tensors, single observations and batches: only
the last axis is touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from simscaleai.array_types import Array
from simscaleai.errors import UserError

MAX_RANK = 8
IMAGE_PREFIXES = ("images/", "depth/", "segmentation/")
_CHANNELS = (1, 3, 4)
_LARGEST_MATRIX = 8  # shorter side of a matrix that is a pose or the like


def is_image_key(key: str) -> bool:
    """Return whether environments name images so: `image`, `images/<camera>`, `depth/<camera>`, ..."""
    return key == "image" or key.startswith(IMAGE_PREFIXES)


def is_image(key: str, shape: Sequence[int], dtype: Any) -> bool:
    """Return whether entries of this shape (without a batch axis) are images, not vectors or matrices."""
    if len(shape) != 2:
        return len(shape) > 2
    return is_image_key(key) or np.dtype(dtype).kind in "iu"


def state_problem(key: str, shape: Sequence[int]) -> str | None:
    """Return why entries that are no images cannot be in the state, to end a sentence; None if they can."""
    if len(shape) < 2 or min(shape) <= _LARGEST_MATRIX:
        return None
    return (
        f"the observation {key!r} has the shape {tuple(shape)} of floats, too large for a state, and is no"
        " image"
    )


def image_problem(key: str, shape: Sequence[int], dtype: Any) -> str | None:
    """Return why a model cannot read entries of this shape as images, to end a sentence; None if it can."""
    shape, dtype = tuple(shape), np.dtype(dtype)
    if len(shape) == 3 and dtype == np.uint8 and shape[2] in _CHANNELS:
        return None
    first = len(shape) == 3 and shape[0] in _CHANNELS and shape[2] not in _CHANNELS
    why = ", channels first" if first else ""
    return (
        f"{key!r} is {dtype} {shape}{why}, and images are uint8 (height, width, channels) with 1, 3 or 4"
        " channels"
    )


@dataclass(frozen=True)
class ObsSpec:
    """Shapes and dtypes of one environment's observation, keys in sorted order."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]

    @classmethod
    def of(cls, obs: Mapping[str, Any], *, batched: bool = False) -> ObsSpec:
        """Return the spec of an example; with `batched`, the leading axis is left out."""
        keys = sorted(obs)
        skip = 1 if batched else 0
        return cls(
            {k: tuple(int(s) for s in np.shape(obs[k])[skip:]) for k in keys},
            {k: str(obs[k].dtype) for k in keys},
        )

    @classmethod
    def from_saved(cls, about: Mapping[str, Any]) -> ObsSpec:
        """Return the spec in "obs_shapes" and "obs_dtypes" of a checkpoint; UserError if they are damaged."""
        shapes, dtypes = read_shapes(about.get("obs_shapes"), about.get("obs_dtypes"))
        if missing := sorted(shapes.keys() - dtypes.keys()):
            raise UserError(f"obs_dtypes lacks {', '.join(missing)}; the file is damaged.")
        return cls(shapes, dtypes)

    @property
    def state_keys(self) -> list[str]:
        """The keys that make up `state`, in order."""
        return [k for k in self.shapes if not self._is_image(k)]

    @property
    def image_keys(self) -> list[str]:
        """The keys that hold images, in order."""
        return [k for k in self.shapes if self._is_image(k)]

    def _is_image(self, key: str) -> bool:
        return is_image(key, self.shapes[key], self.dtypes.get(key, np.float32))

    @property
    def state_dim(self) -> int:
        return sum(math.prod(self.shapes[k]) for k in self.state_keys)


def read_shapes(shapes: Any, dtypes: Any) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Return checked {key: shape} and {key: dtype} from a file; UserError if they are damaged."""
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


def observation_leaves(obs: Any) -> dict[str, Any]:
    """Return the leaves of an observation of any structure by name.

    Args:
      obs: dicts and tuples of observations, whose leaves are named by the way to them, as "robot/q" or, in
        a tuple, "0", "1", ...; or one array, which is "state".
    """
    if not isinstance(obs, Mapping | tuple):
        return {"state": obs}
    entries_by_key: dict[str, Any] = {}
    entries = obs.items() if isinstance(obs, Mapping) else enumerate(obs)
    for name, entry in entries:
        if isinstance(entry, Mapping | tuple):
            entries_by_key |= {
                f"{name}/{rest}": leaf for rest, leaf in observation_leaves(entry).items()
            }
        else:
            entries_by_key[str(name)] = entry
    return entries_by_key


def as_array(value: Any) -> Array:
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
    entries_by_key = [obs[k] for k in keys]
    return array_namespace(entries_by_key[0]).concat(entries_by_key, axis=-1)


def unflatten_state(state: Any, spec: ObsSpec) -> dict[str, Any]:
    """Cut a state (..., spec.state_dim) into {key: (..., d)}: the inverse of `flatten_state`."""
    entries_by_key: dict[str, Any] = {}
    start = 0
    for key in spec.state_keys:
        width = math.prod(spec.shapes[key])
        entries_by_key[key] = state[..., start : start + width]
        start += width
    return entries_by_key
