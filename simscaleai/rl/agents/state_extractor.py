"""Extract the state that an agent reads: the vectors of an observation as one, all of them or those chosen.

    extractor = StateExtractor(["ee_pos", "object_pos"], relative_positions=True)
    extractor(obs)                            # {key: (n, ...)} -> (n, width) float32

The same choices as for a cloned policy (`data.state_keys`, `data.relative_positions`), and the same code.
An observation of any structure is read by the names that `observations.observation_leaves` gives its parts;
a matrix counts by its entries, a number as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from simscaleai.errors import UserError, unknown_name
from simscaleai.models.features import RelativePositions, relative
from simscaleai.observations import ObsSpec, as_array, is_image_key, observation_leaves

Observation: TypeAlias = Any  # an array, a number, or a dict or tuple of observations


class StateExtractor:
    """See the module docstring.

    Args:
      state_keys: entries that are read; None for all vectors. Images never are, unless an observation is
        nothing but one.
      relative_positions: replace positions by what `models.features.RelativePositions` makes of them.

    Attributes:
      spec: of the entries that are read; known after the first observation.
    """

    def __init__(
        self, state_keys: Sequence[str] | None = None, relative_positions: bool = False
    ) -> None:
        self.state_keys, self.relative_positions = state_keys, relative_positions
        self.spec: ObsSpec | None = None
        self._features: RelativePositions | None = None

    def __call__(self, obs: Observation, batched: bool | None = None) -> NDArray[np.float32]:
        """Return (width,) for an observation, and (n, width) for those of n environments.

        An array of states (..., width) is returned as it is, whatever structure the extractor was made for.

        Args:
          obs: an observation, or those of n environments.
          batched: whether it comes from a vector environment; None where it may be either, which is then
            decided by its shape.

        Raises:
          UserError: it lacks an entry, or has one that is not a number.
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
        # in the order of the spec, which is sorted: so that a policy that is loaded reads the same state
        arrays = [as_array(parts[key]) for key in self.spec.shapes]
        if batched is None:
            batched = arrays[0].ndim > len(next(iter(self.spec.shapes.values())))
        vectors = [
            array.reshape(len(array), -1) if batched else array.reshape(-1) for array in arrays
        ]
        # (n, width), or (width,) of one observation
        flat = np.concatenate(vectors, axis=-1).astype(np.float32, copy=False)
        if self._features is None:
            return flat
        features: NDArray[np.float32] = self._features(torch.from_numpy(flat)).numpy()
        return features

    def extract(self, spec: ObsSpec) -> None:
        """Read the entries of `spec`, whatever else an observation has."""
        self.spec, self._features = spec, relative(spec, self.relative_positions)

    @property
    def _array_shape(self) -> tuple[int, ...] | None:
        """The shape of observations that are single arrays; None where they are not, or not known."""
        shapes = {} if self.spec is None else self.spec.shapes
        return shapes["state"] if list(shapes) == ["state"] else None

    def _read_array(self, array: NDArray[np.generic], batched: bool | None) -> NDArray[np.float32]:
        if self.spec is None and (self.state_keys is not None or self.relative_positions):
            raise UserError(
                "state_keys and relative_positions are for observations that are dicts, and this"
                " environment's are arrays; leave them out."
            )
        _require_numbers("state", array)
        # an environment gave it, so its shape is that of observations; others may pass flat states
        if batched is not None and (self.spec is None or self._array_shape is not None):
            self.extract(ObsSpec({"state": array.shape[batched:]}, {"state": str(array.dtype)}))
        shape = self._array_shape
        flat = shape == () and array.ndim == 2  # states (n, 1) of what is a single number
        if shape is not None and array.shape[array.ndim - len(shape) :] == shape and not flat:
            array = array.reshape((*array.shape[: array.ndim - len(shape)], -1))
        return array.astype(np.float32, copy=False)

    def _choose_keys(self, parts: Mapping[str, Observation], batched: bool | None) -> None:
        arrays = {key: as_array(value) for key, value in parts.items()}
        if batched is None:
            batched = min((array.ndim for array in arrays.values()), default=0) > 1
        vectors = sorted(k for k, array in arrays.items() if not _is_image(k, array, batched))
        for key in self.state_keys or ():
            if key not in vectors:
                raise unknown_name("state_keys entry", key, vectors)
        # all vectors by default; images are left out, as the policy is an MLP
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
