"""Entries of an observation, and the state that is concatenated from them.

An observation is a dict {key: array}. Its `state`, from which models and agents learn, is the concatenation
of its vectors in sorted order of their keys. Images are distinguished from vectors by their shape
(`is_image`), not by their name. The functions take NumPy arrays and torch tensors, single observations and
batches: they change the last axis only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import EllipsisType
from typing import Protocol, TypeVar

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import DTypeLike

from simscaleai.array_types import Array
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict


class _Sliceable(Protocol):
    """An array or a tensor."""

    def __getitem__(self: _A, key: tuple[EllipsisType, slice], /) -> _A: ...


_A = TypeVar("_A", bound=_Sliceable)

MAX_RANK = 8  # axes of an entry; a file that claims more is damaged
IMAGE_PREFIXES = ("images/", "depth/", "segmentation/")
_CHANNELS = (1, 3, 4)
_LARGEST_MATRIX = 8  # shorter side of a matrix that is a pose or the like


def is_image_key(key: str) -> bool:
    """Return whether `key` is a name that environments give to images: `image`, `images/<camera>`, ..."""
    return key == "image" or key.startswith(IMAGE_PREFIXES)


def is_image(key: str, shape: Sequence[int], dtype: DTypeLike) -> bool:
    """Return whether entries of this shape (without a batch axis) are images, not vectors or matrices."""
    if len(shape) != 2:
        return len(shape) > 2
    # (h, w) may be a grayscale image or a pose matrix: pixels are integers, or have an image's name.
    return is_image_key(key) or np.dtype(dtype).kind in "iu"


def state_problem(key: str, shape: Sequence[int]) -> str | None:
    """Return why vectors or matrices of this shape cannot be in the state, as a clause; None if they can."""
    if len(shape) < 2 or min(shape) <= _LARGEST_MATRIX:
        return None
    return (
        f"the observation {key!r} has the shape {tuple(shape)} of floats, too large for a state, and is no"
        " image"
    )


def image_problem(key: str, shape: Sequence[int], dtype: DTypeLike) -> str | None:
    """Return why a model cannot read entries of this shape as images, as a clause; None if it can."""
    shape, dtype = tuple(shape), np.dtype(dtype)
    if len(shape) == 3 and dtype == np.uint8 and shape[2] in _CHANNELS:
        return None
    # The most common mistake, channels first, is named.
    first = len(shape) == 3 and shape[0] in _CHANNELS and shape[2] not in _CHANNELS
    why = ", channels first" if first else ""
    return (
        f"{key!r} is {dtype} {shape}{why}, and images are uint8 (height, width, channels) with 1, 3 or 4"
        " channels"
    )


@dataclass(frozen=True)
class ObsSpec:
    """Shapes and dtypes of one observation (without a batch axis), by key in sorted order."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]

    @classmethod
    def of(cls, obs: Mapping[str, Array], *, batched: bool = False) -> ObsSpec:
        """Return the spec of an example; with `batched`, the leading axis is left out."""
        keys = sorted(obs)
        skip = 1 if batched else 0
        return cls(
            {k: tuple(int(s) for s in np.shape(obs[k])[skip:]) for k in keys},
            {k: str(obs[k].dtype) for k in keys},
        )

    @classmethod
    def from_saved(cls, about: JsonDict) -> ObsSpec:
        """Return the spec in "obs_shapes" and "obs_dtypes" of a checkpoint; UserError if they are damaged."""
        shapes, dtypes = read_shapes(about.get("obs_shapes"), about.get("obs_dtypes"))
        if missing := sorted(shapes.keys() - dtypes.keys()):
            raise UserError(f"obs_dtypes lacks {', '.join(missing)}; the file is damaged.")
        return cls(shapes, dtypes)

    # cached: a loader asks for each batch
    @cached_property
    def state_keys(self) -> list[str]:
        """Keys of the vectors that make up `state`, in order."""
        return [k for k in self.shapes if not self._is_image(k)]

    @cached_property
    def image_keys(self) -> list[str]:
        """Keys of the images, in order."""
        return [k for k in self.shapes if self._is_image(k)]

    def _is_image(self, key: str) -> bool:
        return is_image(key, self.shapes[key], self.dtypes.get(key, np.float32))

    @cached_property
    def state_dim(self) -> int:
        """Width of `state`; a matrix counts by its entries."""
        return sum(math.prod(self.shapes[k]) for k in self.state_keys)


def read_shapes(
    shapes: object, dtypes: object
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Return checked {key: shape} and {key: dtype} from a file; UserError if they are damaged."""
    shapes, dtypes = _mapping("obs_shapes", shapes), _mapping("obs_dtypes", dtypes)
    for key, shape in shapes.items():
        sizes = shape if isinstance(shape, list | tuple) else [None]
        # `type`, not `isinstance`: True is an int. The limit keeps products of sizes out of overflow.
        if len(sizes) > MAX_RANK or any(type(n) is not int or not 0 <= n < 2**31 for n in sizes):
            raise UserError(
                f"The shape of observation {key!r} is no list of sizes; the file is damaged."
            )
    if wrong := [key for key, name in dtypes.items() if not isinstance(name, str)]:
        raise UserError(f"The dtype of observation {wrong[0]!r} is no name; the file is damaged.")
    return {k: tuple(v) for k, v in shapes.items()}, dict(dtypes)


def _mapping(name: str, values: object) -> JsonDict:
    if not isinstance(values, Mapping) or any(not isinstance(key, str) for key in values):
        raise UserError(f"{name} is no mapping of observations; the file is damaged.")
    return dict(values)


def observation_leaves(obs: object) -> dict[str, object]:
    """Return the leaves of an observation of any structure by name.

    Args:
      obs: nested dicts and tuples, whose leaves are named by their path, such as "robot/q", or "0", "1", ...
        in a tuple; or a single array, which is named "state".
    """
    if not isinstance(obs, Mapping | tuple):
        return {"state": obs}
    entries_by_key: dict[str, object] = {}
    entries = obs.items() if isinstance(obs, Mapping) else enumerate(obs)
    for name, entry in entries:
        if isinstance(entry, Mapping | tuple):
            entries_by_key |= {
                f"{name}/{rest}": leaf for rest, leaf in observation_leaves(entry).items()
            }
        else:
            entries_by_key[str(name)] = entry
    return entries_by_key


def as_array(value: object) -> Array:
    """Return a number, list, array or tensor on any device as an array."""
    # NumPy itself refuses tensors that need a gradient or lie on a GPU.
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def flatten_state(obs: Mapping[str, _A], keys: list[str] | None = None) -> _A:
    """Concatenate the vector-valued entries of an observation into its state.

    Args:
      obs: {key: (..., d)} of NumPy arrays or torch tensors with equal leading axes; images are left out.
      keys: entries to concatenate, in this order; by default all that are not images, sorted.

    Returns:
      (..., sum of d), of the entries' array type.
    """
    if keys is None:
        keys = sorted(k for k in obs if not is_image_key(k))
    vectors = [obs[k] for k in keys]
    return array_namespace(vectors[0]).concat(vectors, axis=-1)


def unflatten_state(state: _A, spec: ObsSpec) -> dict[str, _A]:
    """Split a state (..., spec.state_dim) into {key: (..., d)}: the inverse of `flatten_state`."""
    entries_by_key: dict[str, _A] = {}
    start = 0
    for key in spec.state_keys:
        width = math.prod(spec.shapes[key])
        entries_by_key[key] = state[..., start : start + width]  # (..., d), a view
        start += width
    return entries_by_key
