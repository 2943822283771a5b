"""Readers of the `info` of environments, of this package and of others.

    success, reported = read_success(info)            # of a single environment, (1,) each
    success, reported = read_success(info, n=8)       # of a vector environment, (8,) each

Success is `success` or, in Gymnasium-Robotics and panda-gym, `is_success`, as any kind of flag: a bool, a
number, an array of one, a text. A vector environment may have `_success` too: True for the envs whose
`success` is valid, as in Gymnasium's vector infos.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simscaleai.array_types import BoolArray
from simscaleai.convert import as_flag, plain
from simscaleai.errors import UserError

SUCCESS_KEYS = ("success", "is_success")


def read_success(info: Mapping[str, object], n: int | None = None) -> tuple[BoolArray, BoolArray]:
    """Return which envs have succeeded, by the first of `SUCCESS_KEYS` that is valid for each.

    Args:
      info: the info of one step.
      n: number of envs; None for a single environment.

    Returns:
      (success, reported), (n,) each: whether each env succeeded, and whether the info says so or not.

    Raises:
      UserError: the value is not a flag, or not one for each env.
    """
    success = np.zeros(n or 1, dtype=bool)  # (n,)
    reported = np.zeros(n or 1, dtype=bool)  # (n,)
    for key in SUCCESS_KEYS:
        value = info.get(key)
        if value is None or reported.all():
            continue
        flags, known = _flags(key, value, n)
        if n is not None and f"_{key}" in info:
            known &= np.asarray(info[f"_{key}"], dtype=bool)  # (n,)
        # An env that the first key has reported is not overruled by the second.
        success |= flags & known & ~reported
        reported |= known
    return success, reported


def last_info(
    info: Mapping[str, object], final: Mapping[str, object], done: BoolArray
) -> dict[str, object]:
    """Return the info of the states that the actions led to: `final` where episodes ended, else `info`.

    Args:
      info: the info of a vector environment in autoreset mode SAME_STEP; where an episode ended, it
        describes the first state of the next one.
      final: its `final_info`, which describes the last state of the old one.
      done: (n,), True for the envs whose episode ended.
    """
    merged = dict(info)
    for key, last in final.items():
        now = info.get(key, last)
        if isinstance(last, Mapping):  # infos nest, such as {"episode": {"r": ..., "l": ...}}
            merged[key] = last_info(now if isinstance(now, Mapping) else {}, last, done)
        elif np.asarray(last).ndim == np.asarray(now).ndim == 1:
            merged[key] = np.where(done, np.asarray(last), np.asarray(now))  # (n,)
        else:
            # Of other shapes the two cannot be merged; the last state is what counts.
            merged[key] = last
    return merged


def _flags(key: str, value: object, n: int | None) -> tuple[BoolArray, BoolArray]:
    """Return the flags of `n` envs and whether each is known, (n,) each."""
    if isinstance(value, np.ndarray) and value.dtype == bool and value.shape == (n,):
        return value, np.ones(value.shape, dtype=bool)  # what almost every environment gives
    if hasattr(value, "detach") and hasattr(value, "tolist"):
        value = value.tolist()  # a tensor with axes, which `plain` would leave as it is
    entries = [value] if n is None else plain(value)
    if not isinstance(entries, list | tuple) or len(entries) != (n or 1):
        raise UserError(
            f"The environment's info has {key!r}: {value!r}, which must be one flag for each of {n} envs."
        )
    try:
        flags = [as_flag(entry) for entry in entries]
    except ValueError as error:
        raise UserError(
            f"The environment's info has {key!r}, and {error}; a success is true or false, 1 or 0."
        ) from None
    known = np.array([flag is not None for flag in flags])
    return np.array([bool(flag) for flag in flags]), known
