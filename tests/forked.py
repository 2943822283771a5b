"""Functions in a process of their own, which may be killed at any moment.

The process is a fork of a server that has no threads. A fork of the process of the tests could wait for
ever: for a lock that another thread held, or for threads that it has not inherited.
"""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simscaleai.executors.main_module import without_main

if TYPE_CHECKING:
    # which Windows does not have
    from multiprocessing.context import ForkServerContext, ForkServerProcess


@functools.cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.imported"])
    return context


def start(function: Callable[..., object], *args: Any) -> ForkServerProcess:
    """Begin `function(*args)`; the function is found again by its module and name."""
    process = _server().Process(target=function, args=args)
    with without_main():
        process.start()
    return process


def exit_code(function: Callable[..., object], *args: Any, seconds: float = 120) -> int:
    """The exit code of `function(*args)`: 0 at its end, negative for a signal; an error after `seconds`."""
    process = start(function, *args)
    process.join(seconds)
    code = process.exitcode
    process.kill()
    process.join()
    assert code is not None, f"{function.__name__} was still running after {seconds:g} s"
    return code
