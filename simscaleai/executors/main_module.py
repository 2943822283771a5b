"""The main program, which Python imports again in every process that it spawns.

Workers import it only if they need something that is defined there. A program whose work is not under
`if __name__ == "__main__":` would then do it again in every worker; that ends silently, and the process
that started it reports the mistake.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from simscaleai.errors import UserError

WORKER = "simscaleai-worker"
"""Name of the processes that an executor starts, by which they know themselves while they are starting."""
UNGUARDED = 96
"""Exit code of a worker that was about to do the main program's work."""


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


def end_if_imported_by_worker() -> None:
    """Exit silently if this is a worker that was only importing the main program.

    To be called first by whatever spreads work over processes: before it touches a file.
    """
    process = multiprocessing.current_process()
    # the attribute exists while a spawned process imports the main program, and no longer
    if process.name == WORKER and getattr(process, "_inheriting", False):
        os._exit(UNGUARDED)


def unguarded() -> UserError:
    """Return the error for a main program that a worker could not import without doing its work."""
    return UserError(
        "Worker processes import this program, as something that they need is defined in it, and then it"
        ' would do its work again; put what it does under `if __name__ == "__main__":`, or use one worker.'
    )
