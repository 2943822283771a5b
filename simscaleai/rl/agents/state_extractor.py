"""Extract the state that an agent reads: all vectors of an observation, or chosen ones, as one vector.

    extractor = StateExtractor(["ee_pos", "object_pos"], relative_positions=True)
    extractor(obs)                            # {key: (n, ...)} -> (n, width) float32

The choices are those of a cloned policy (`data.state_keys`, `data.relative_positions`), with the same code.
`observations.observation_leaves` names the entries of observations of any structure. A matrix is flattened,
and a number is a vector of length 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from simscaleai.array_types import Array
from simscaleai.errors import UserError, unknown_name
from simscaleai.models.features import RelativePositions, relative
from simscaleai.observations import ObsSpec, as_array, is_image_key, observation_leaves

Observation: TypeAlias = "Array | float | Mapping[str, Observation] | tuple[Observation, ...]"
"""An observation of any Gymnasium environment."""


class StateExtractor:
    """See the module docstring.

    Args:
      state_keys: entries to read; None for all vectors. Images are not read, unless the whole observation is
        one image.
      relative_positions: replace positions by differences; see `models.features.RelativePositions`.

    Attributes:
      spec: specification of the entries to read; None before the first observation.
    """

    def __init__(
        self, state_keys: Sequence[str] | None = None, relative_positions: bool = False
    ) -> None:
        self.state_keys, self.relative_positions = state_keys, relative_positions
        self.spec: ObsSpec | None = None
        self._features: RelativePositions | None = None

    def __call__(self, obs: Observation, batched: bool | None = None) -> NDArray[np.float32]:
        """Return (width,) for an observation, and (n, width) for those of n environments.

        An array of states (..., width) is returned unchanged.

        Args:
          obs: one observation, or those of n environments.
          batched: whether it comes from a vector environment; None to decide by its shape.

        Raises:
          UserError: an entry is missing or is not numeric.
        """
        if not isinstance(obs, Mapping | tuple):
            return self._read_array(as_array(obs), batched)
        parts = observation_leaves(obs)
        if self.spec is None or self._array_shape is not None:
            self._choose_keys(parts, batched)
            assert self.spec is not None
        if missing := [key for key in self.spec.shapes if key not in parts]:
            raise UserError(
                f"The observation lacks {', '.join(map(repr, missing))}; it has {', '.join(parts)}."
            )
        # The order of the spec is sorted, so that a loaded policy reads the same state.
        arrays = [as_array(parts[key]) for key in self.keys]
        if batched is None:
            batched = arrays[0].ndim > len(self.spec.shapes[self.keys[0]])
        vectors = [
            array.reshape(len(array), -1) if batched else array.reshape(-1) for array in arrays
        ]
        # (n, width), or (width,) of one observation
        flat = np.concatenate(vectors, axis=-1).astype(np.float32, copy=False)
        if self._features is None:
            return flat
        features: NDArray[np.float32] = self._features(torch.from_numpy(flat)).numpy()
        return features

    @property
    def keys(self) -> Sequence[str]:
        """Entries in the order in which they are concatenated."""
        assert self.spec is not None
        return list(self.spec.shapes)

    def extract(self, spec: ObsSpec) -> None:
        """Read the entries of `spec` from now on, and ignore all others."""
        self.spec, self._features = spec, relative(spec, self.relative_positions)

    @property
    def _array_shape(self) -> tuple[int, ...] | None:
        """Shape of an observation that is a single array; None for others, and before the first."""
        shapes = {} if self.spec is None else self.spec.shapes
        return shapes["state"] if list(shapes) == ["state"] else None

    def _read_array(self, array: NDArray[np.generic], batched: bool | None) -> NDArray[np.float32]:
        if self.spec is None and (self.state_keys is not None or self.relative_positions):
            raise UserError(
                "state_keys and relative_positions are for observations that are dicts, and this"
                " environment's are arrays; leave them out."
            )
        _require_numbers("state", array)
        # From an environment, the shape is that of its observations; other callers may pass flat states.
        if batched is not None and (self.spec is None or self._array_shape is not None):
            self.extract(ObsSpec({"state": array.shape[batched:]}, {"state": str(array.dtype)}))
        shape = self._array_shape
        flat = (
            shape == () and array.ndim == 2
        )  # states (n, 1) of observations that are single numbers
        if shape is not None and array.shape[array.ndim - len(shape) :] == shape and not flat:
            array = array.reshape((*array.shape[: array.ndim - len(shape)], -1))
        return array.astype(np.float32, copy=False)

    def _choose_keys(self, parts: Mapping[str, object], batched: bool | None) -> None:
        arrays = {key: as_array(value) for key, value in parts.items()}
        if batched is None:
            batched = min((array.ndim for array in arrays.values()), default=0) > 1
        vectors = sorted(k for k, array in arrays.items() if not _is_image(k, array, batched))
        for key in self.state_keys or ():
            if key not in vectors:
                raise unknown_name("state_keys entry", key, vectors)
        # No images: the policy is an MLP.
        chosen = vectors if self.state_keys is None else sorted(self.state_keys)
        if not chosen:
            raise UserError(
                f"The observation has no vectors but {', '.join(arrays) or 'nothing'}, and agents learn from"
                " vectors; have the environment observe some."
            )
        for key in chosen:
            _require_numbers(key, arrays[key])
        shapes = {key: arrays[key].shape[batched:] for key in chosen}
        self.extract(ObsSpec(shapes, {key: str(arrays[key].dtype) for key in chosen}))


def _require_numbers(key: str, array: NDArray[np.generic]) -> None:
    if array.dtype.kind not in "biuf":
        raise UserError(
            f"The observation's part {key!r} is of {array.dtype}, and agents learn from numbers; leave it out"
            " by state_keys, or wrap the environment."
        )


def _is_image(key: str, array: NDArray[np.generic], batched: bool) -> bool:
    return is_image_key(key) or (array.dtype == np.uint8 and array.ndim == 3 + batched)
