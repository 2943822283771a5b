"""The main program, which Python imports again in every process that it spawns."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def without_main(*, unless: bool = False) -> Iterator[None]:
    """Replace the main program by an empty module, so that a spawned process does not import it."""
    if unless:
        yield
        return
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
