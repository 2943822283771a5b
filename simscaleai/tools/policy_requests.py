"""Read the requests of clients of a policy server: untrusted data, each part of which is checked.

Raises:
  ValueError: a message is none of the protocol; the server ends its connection.
  UserError: a message is for more envs than the server takes; its client may do better next time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simscaleai.errors import UserError

_LONGEST_INSTRUCTION = 1000  # characters


def episodes(
    message: Mapping[str, object], max_envs: int
) -> tuple[np.ndarray, list[int], list[str] | None]:
    """Return the mask (n,), seeds and instructions of a message "reset"."""
    mask, seeds, instructions = (message.get(key) for key in ("mask", "seeds", "instructions"))
    if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.ndim != 1:
        raise ValueError("mask must be an array (n,) of bool")
    _check_count(len(mask), max_envs)
    if not isinstance(seeds, list) or any(type(s) is not int or s < 0 for s in seeds):
        raise ValueError("seeds must be a list of n whole numbers")
    texts = instructions if isinstance(instructions, list) else []
    if not (instructions is None or isinstance(instructions, list)) or not all(
        isinstance(text, str) and len(text) <= _LONGEST_INSTRUCTION for text in texts
    ):
        raise ValueError("instructions must be a list of n texts, or nil")
    if len(seeds) != len(mask) or (instructions is not None and len(texts) != len(mask)):
        raise ValueError("mask, seeds and instructions must be of the same length")
    return mask, seeds, None if instructions is None else texts


def observations(message: Mapping[str, object], max_envs: int) -> dict[str, np.ndarray]:
    """Return the arrays (n, ...) of a message "act"."""
    obs = message.get("obs")
    if not isinstance(obs, dict) or not obs:
        raise ValueError("obs must be a map of arrays")
    for key, value in obs.items():
        if not isinstance(key, str) or not isinstance(value, np.ndarray) or not value.ndim:
            raise ValueError("obs must be a map of arrays (n, ...)")
        _check_count(len(value), max_envs)
    return obs


def _check_count(n: int, max_envs: int) -> None:
    if not 1 <= n <= max_envs:
        raise UserError(f"This server acts for 1 to {max_envs} envs at once, not for {n}.")
