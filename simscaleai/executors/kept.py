"""What a process keeps between two items of a task, such as an environment that all of them use.

_worker = Kept(Worker, Worker.close)
_worker.get(job)        # made for the first item of a job, and the same for the others
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Keeps the value of the last key.

    Args:
      make: returns the value of a key; keys are compared by `==`.
      close: releases what a value holds.
    """

    def __init__(self, make: Callable[[K], V], close: Callable[[V], object]) -> None:
        self._make, self._close = make, close
        self._kept: tuple[K, V] | None = None

    def get(self, key: K) -> V:
        """Return the value of `key`; that of another one is closed."""
        if self._kept is None or self._kept[0] != key:
            self.close()
            self._kept = key, self._make(key)
        return self._kept[1]

    def close(self) -> None:
        """Close the value, if there is one; the next `get` makes another."""
        if self._kept is not None:
            self._close(self._kept[1])
        self._kept = None
