"""Observations as a policy is given them, from whatever code: read, or refused in one sentence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscaleai.errors import UserError
from simscaleai.observations import (
    ObsSpec,
    as_array,
    flatten_state,
    is_image,
    is_image_key,
    observation_leaves,
    unflatten_state,
)

STATE = "state"
_NUMBER = {(), (1,)}  # shapes of what is one number


def read_observations(obs: Any, spec: ObsSpec | None) -> dict[str, NDArray[Any]]:
    """Return the observations {key: (n, ...)} that `spec` names, as arrays.

    Args:
      obs: of n environments: {key: (n, ...)} of arrays, tensors or lists, nested as it may be, or one array.
      spec: what is read; None for all there is.

    Raises:
      UserError: something is missing, of another shape, of another number of rows, or not finite; the error
        names every difference.
    """
    parts = observation_leaves(obs)
    if spec is None:
        arrays = {key: _array(key, value) for key, value in parts.items()}
    else:
        arrays = {
            key: _array(key, parts[key], spec.dtypes.get(key))
            for key in spec.shapes
            if key in parts
        }
        if STATE in spec.shapes and STATE not in parts:
            _add_state(arrays, parts, spec)
        elif STATE in parts and spec.state_keys and not any(k in parts for k in spec.state_keys):
            _cut_state(arrays, parts[STATE], spec)
        _refuse_single(arrays, spec)
        arrays = {key: _as_specified(value, spec.shapes[key]) for key, value in arrays.items()}
        _check_shapes(arrays, spec)
    counts = {key: len(value) if value.ndim else None for key, value in arrays.items()}
    if len(set(counts.values())) != 1 or None in counts.values():
        listed = (
            ", ".join(f"{key!r} has {n or 'none'}" for key, n in counts.items()) or "it is empty"
        )
        raise UserError(
            "An observation must have a row for each environment in each of its entries, of which"
            f" {listed}; give all of them the same number."
        )
    for key, value in arrays.items():
        if value.dtype.kind == "f" and not (finite := np.isfinite(value)).all():
            row = int(np.flatnonzero(~finite.reshape(len(value), -1).all(1))[0])
            raise UserError(
                f"The observation {key!r} is not finite (NaN or infinite) in row {row}; a policy can act on"
                " finite numbers alone."
            )
    return arrays


def _array(key: str, value: Any, dtype: str | None = None) -> NDArray[Any]:
    """`value` as an array; a list, which has no dtype, in the one that is expected if it loses nothing."""
    try:
        array = as_array(value)
    except (TypeError, ValueError):  # lists of different lengths
        array = np.empty(0, dtype=object)
    if array.dtype.kind not in "biuf":
        raise UserError(
            f"The observation {key!r} cannot be made an array of numbers; give an array, a tensor or a list"
            " of lists of the same length."
        )
    if dtype is not None and not hasattr(value, "dtype"):
        with np.errstate(invalid="ignore"):
            cast = array.astype(dtype)
        return cast if np.array_equal(cast, array) else array
    return array


def _add_state(arrays: dict[str, NDArray[Any]], parts: dict[str, Any], spec: ObsSpec) -> None:
    """Put together the vector "state" of a policy that knows no other, as a dataset has it."""
    vectors = {key: _array(key, value) for key, value in parts.items() if not is_image_key(key)}
    rows = {len(v) if v.ndim else 0 for v in vectors.values()}
    if not vectors or len(rows) > 1:
        return
    n = rows.pop()
    flat = {key: v.reshape(n, math.prod(v.shape[1:])) for key, v in vectors.items()}
    arrays[STATE] = flatten_state(flat, sorted(flat))


def _cut_state(arrays: dict[str, NDArray[Any]], state: Any, spec: ObsSpec) -> None:
    """Take the vectors of a policy from one "state" that has them all, as a dataset gives it."""
    state = _array(STATE, state)
    if state.ndim == 2 and state.shape[1] == spec.state_dim:
        for key, part in unflatten_state(state, spec).items():
            arrays[key] = part.reshape(len(state), *spec.shapes[key])


def _refuse_single(arrays: dict[str, NDArray[Any]], spec: ObsSpec) -> None:
    """Raise UserError for an observation without an axis for the environments."""
    sure = {k: v for k, v in arrays.items() if spec.shapes[k] not in _NUMBER}
    if sure and all(value.shape == spec.shapes[key] for key, value in sure.items()):
        raise UserError(
            "The observation is of a single environment, and a policy acts for n at once: give each entry a"
            " leading axis, as {key: value[None]}, or let `evaluate_policy` do that."
        )


def _as_specified(value: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Numbers (n,) as (n, 1) where a vector of one is meant, and the other way round."""
    if value.ndim and {value.shape[1:], shape} == _NUMBER:
        return value.reshape(len(value), *shape)
    return value


def _check_shapes(arrays: dict[str, NDArray[Any]], spec: ObsSpec) -> None:
    wrong = [f"{key!r} is missing" for key in spec.shapes if key not in arrays]
    for key, value in arrays.items():
        shape = spec.shapes[key]
        if value.shape[1:] != shape:
            wrong.append(f"{key!r} has rows of shape {value.shape[1:]}, expected {shape}")
        elif is_image(key, shape, spec.dtypes[key]) and value.dtype != spec.dtypes[key]:
            wrong.append(f"{key!r} is {value.dtype}, expected {spec.dtypes[key]}")
    if wrong:
        raise UserError("The observation does not fit the policy: " + "; ".join(wrong) + ".")
