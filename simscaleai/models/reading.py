"""Checked reading of the observations that any code passes to a policy."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from simscaleai.array_types import Array, ArrayDict
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
_NUMBER = {(), (1,)}  # shapes of a single number


def read_observations(obs: object, spec: ObsSpec | None) -> ArrayDict:
    """Return the observations {key: (n, ...)} that `spec` names, as arrays.

    Args:
      obs: observations of n envs, {key: (n, ...)} of arrays, tensors or lists, possibly nested, or one array.
      spec: the entries to read; None for all entries.

    Raises:
      UserError: an entry is missing, of another shape, of another number of envs, or not finite; the error
        names every difference.
    """
    leaves = observation_leaves(obs)
    if spec is None:
        arrays = {key: _array(key, value) for key, value in leaves.items()}
    else:
        arrays = {
            key: _array(key, leaves[key], spec.dtypes.get(key))
            for key in spec.shapes
            if key in leaves
        }
        # A dataset gives one vector "state" where environments give its parts: both are accepted.
        if STATE in spec.shapes and STATE not in leaves:
            _add_state(arrays, leaves)
        elif STATE in leaves and spec.state_keys and not any(k in leaves for k in spec.state_keys):
            _split_state(arrays, leaves[STATE], spec)
        _refuse_single(arrays, spec)
        arrays = {key: _as_specified(value, spec.shapes[key]) for key, value in arrays.items()}
        _check_shapes(arrays, spec)
    _check_counts(arrays)
    _check_finite(arrays)
    return arrays


def _check_counts(arrays: ArrayDict) -> None:
    """Raise UserError unless all entries have the same number of envs."""
    counts = {key: len(value) if value.ndim else None for key, value in arrays.items()}
    if len(set(counts.values())) != 1 or None in counts.values():
        listed = (
            ", ".join(f"{key!r} has {n or 'none'}" for key, n in counts.items()) or "it is empty"
        )
        raise UserError(
            "Each entry of an observation needs a leading axis with one element for each env, and here"
            f" {listed}; give all of them the same number."
        )


def _check_finite(arrays: ArrayDict) -> None:
    """Raise UserError for NaN and infinity, which a network would spread to all of its outputs."""
    for key, value in arrays.items():
        if value.dtype.kind == "f" and not (finite := np.isfinite(value)).all():
            env_id = int(np.flatnonzero(~finite.reshape(len(value), -1).all(1))[0])
            raise UserError(
                f"The observation {key!r} is not finite (NaN or infinite) in env {env_id}; a policy can act"
                " on finite numbers only."
            )


def _array(key: str, value: object, dtype: str | None = None) -> Array:
    """Return `value` as an array; a list, which has no dtype, in `dtype` if that loses nothing."""
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
        with np.errstate(invalid="ignore"):  # NaN cast to an integer; the comparison finds it
            cast = array.astype(dtype)
        return cast if np.array_equal(cast, array) else array
    return array


def _add_state(arrays: ArrayDict, leaves: Mapping[str, object]) -> None:
    """Add the vector "state" of a policy that reads only that: all vectors in sorted order, concatenated."""
    vectors = {key: _array(key, value) for key, value in leaves.items() if not is_image_key(key)}
    counts = {len(v) if v.ndim else 0 for v in vectors.values()}
    if not vectors or len(counts) > 1:
        return  # "state" is then missing, which `_check_shapes` reports
    n = counts.pop()
    flat = {key: v.reshape(n, math.prod(v.shape[1:])) for key, v in vectors.items()}  # (n, d) each
    arrays[STATE] = flatten_state(flat, sorted(flat))  # (n, sum of d)


def _split_state(arrays: ArrayDict, value: object, spec: ObsSpec) -> None:
    """Add the vectors of a policy from one vector "state" that is their concatenation."""
    state = _array(STATE, value)
    if state.ndim == 2 and state.shape[1] == spec.state_dim:
        for key, part in unflatten_state(state, spec).items():
            arrays[key] = part.reshape(len(state), *spec.shapes[key])


def _refuse_single(arrays: ArrayDict, spec: ObsSpec) -> None:
    """Raise UserError for an observation without a leading axis for the envs."""
    # A shape of one number is ambiguous: (1,) may be one env or an axis of length one.
    sure = {k: v for k, v in arrays.items() if spec.shapes[k] not in _NUMBER}
    if sure and all(value.shape == spec.shapes[key] for key, value in sure.items()):
        raise UserError(
            "The observation is of a single environment, and a policy acts for n at once: give each entry a"
            " leading axis, as {key: value[None]}, or let `evaluate_policy` do that."
        )


def _as_specified(value: Array, shape: tuple[int, ...]) -> Array:
    """Return (n,) as (n, 1) where `shape` is (1,), and (n, 1) as (n,) where it is ()."""
    if value.ndim and {value.shape[1:], shape} == _NUMBER:
        return value.reshape(len(value), *shape)
    return value


def _check_shapes(arrays: ArrayDict, spec: ObsSpec) -> None:
    """Raise one UserError with every entry that is missing, or of another shape or image dtype."""
    wrong = [f"{key!r} is missing" for key in spec.shapes if key not in arrays]
    for key, value in arrays.items():
        shape = spec.shapes[key]
        if value.shape[1:] != shape:
            wrong.append(f"{key!r} has the shape {value.shape[1:]} per env, expected {shape}")
        elif is_image(key, shape, spec.dtypes[key]) and value.dtype != spec.dtypes[key]:
            wrong.append(f"{key!r} is {value.dtype}, expected {spec.dtypes[key]}")
    if wrong:
        raise UserError("The observation does not fit the policy: " + "; ".join(wrong) + ".")
