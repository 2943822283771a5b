"""The interface of engines that run tasks, and the engine that is this process."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Protocol, TypeVar

from simscaleai.errors import MissingPackageError, UserError

T = TypeVar("T")
Option = str | int | float
MAX_TRIES = 4
"""Times that an item is tried whose worker is killed; then it is the item that kills workers."""


class Executor(Protocol):
    """Runs tasks."""

    def run(self, task: Callable[[int], T], items: Sequence[int]) -> Iterator[T]:
        """Yield task(item) for each item, in the order in which they are done."""

    def close(self) -> None:
        """End all workers at once; harmless if there are none."""


class InProcess:
    """Runs tasks one after the other in this process."""

    def run(self, task: Callable[[int], T], items: Sequence[int]) -> Iterator[T]:
        return map(task, items)

    def close(self) -> None:
        """Do nothing."""


def import_engine(package: str, extra: str) -> ModuleType:
    """Import an optional package; MissingPackageError with the remedy if it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f"The executor {extra!r} needs {package}, which is not installed; install it with: pip install"
            f" 'simscaleai[{extra}]'."
        ) from error


def killed_too_often(item: int) -> UserError:
    """Return the error for an item whose worker was killed `MAX_TRIES` times."""
    return UserError(
        f"The worker processes for part {item} were killed {MAX_TRIES} times, perhaps for lack of memory or"
        " time; run again with --resume and fewer --workers or smaller parts."
    )


def num_cpus() -> int:
    """Return how many CPUs this process may use."""
    # a container or a SLURM job has fewer than the machine; macOS and Windows have no such call
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
