"""What workers do in tests, in a module that takes no time to import."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simscaleai.errors import UserError


def square(item: int) -> int:
    return item * item


def fail(item: int) -> int:
    if item == 3:
        raise UserError("The item 3 is wrong.")
    return item


def process_id(item: int) -> int:
    return os.getpid()


def die_once(folder: Path, item: int) -> int:
    """Kill the own process the first time that an odd item comes."""
    mark = folder / str(item)
    if item % 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


def die_before(folder: Path, task: Callable[[int], Any], item: int) -> Any:
    """Kill the own process the first time that an odd item comes; then run the task."""
    die_once(folder, item)
    return task(item)


def die(item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item
