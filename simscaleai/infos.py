"""What the infos of environments say, ours and other people's.

    success, reported = read_success(info)            # of a single environment, (1,) each
    success, reported = read_success(info, n=8)       # of a vector environment, (8,) each

Success is `success` or, as of Gymnasium-Robotics and panda-gym, `is_success`, in any kind of flag: a bool, a
number, an array of one, a text. A vector environment may say by `_success` which of its envs it speaks of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from simscaleai.array_types import BoolArray
from simscaleai.convert import as_flag, plain
from simscaleai.errors import UserError

SUCCESS_KEYS = ("success", "is_success")


def read_success(info: Mapping[str, Any], n: int | None = None) -> tuple[BoolArray, BoolArray]:
    """Read which envs have succeeded, by the first of `SUCCESS_KEYS` that speaks of them.

    Args:
      info: of one step.
      n: how many envs; None for a single environment.

    Returns:
      whether each succeeded, and whether the info says so of it, (n,) each.

    Raises:
      UserError: what it says is no flag, or not one for each env.
    """
    success = np.zeros(n or 1, dtype=bool)
    reported = np.zeros(n or 1, dtype=bool)
    for key in SUCCESS_KEYS:
        value = info.get(key)
        if value is None or reported.all():
            continue
        flags, known = _flags(key, value, n)
        if n is not None and f"_{key}" in info:
            known &= np.asarray(info[f"_{key}"], dtype=bool)
        success |= flags & known & ~reported
        reported |= known
    return success, reported


def last_info(info: Mapping[str, Any], final: Mapping[str, Any], done: BoolArray) -> dict[str, Any]:
    """Return the info of the states that the actions led to: `final` where episodes ended, else `info`.

    Args:
      info: of a vector environment whose finished envs begin anew in the same step.
      final: its `final_info`.
      done: (n,), who ended.
    """
    merged = dict(info)
    for key, last in final.items():
        now = info.get(key, last)
        if isinstance(last, Mapping):
            merged[key] = last_info(now if isinstance(now, Mapping) else {}, last, done)
        elif np.ndim(last) == np.ndim(now) == 1:
            merged[key] = np.where(done, last, now)
        else:
            merged[key] = last
    return merged


def _flags(key: str, value: Any, n: int | None) -> tuple[BoolArray, BoolArray]:
    if isinstance(value, np.ndarray) and value.dtype == bool and value.shape == (n,):
        return value, np.ones(value.shape, dtype=bool)
    if hasattr(value, "detach"):  # a tensor with axes
        value = value.tolist()
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
