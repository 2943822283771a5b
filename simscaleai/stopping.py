"""Ctrl-C and SIGTERM as requests to stop, for loops that save before they end.

    with StopSignals() as stop:
        while work_is_left and not stop.requested:
            one_step()
            stop.attempt(something_long)     # abandoned at once when a signal comes

The first signal is only recorded, and the loop ends after its current step. A second one has its usual
effect, except that a SIGTERM within two seconds of the first is ignored: a scheduler's may arrive twice,
directly and through torchrun.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TypeAlias, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ECHO_SECONDS = 2.0  # between the two copies of one SIGTERM, at most
T = TypeVar("T")

# What `signal.signal` takes and returns; None for a handler that was not installed from Python.
_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None


class Stopped(SystemExit):
    """Exit of a run that a signal has stopped and that has saved its state.

    The exit code is 128 + the signal's number, as for a program that the signal ended, so that a shell's
    `&&`, a scheduler and torchrun do not take the run for a finished one.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(128 + signal_number)
        self.step = step


class StopSignals:
    """Context manager that records signals; see the module docstring.

    Only the main thread receives signals; in any other thread it does nothing.

    Attributes:
      requested: number of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._before: dict[int, _Handler] = {}  # handlers to put back at the end
        self._abandoning = False  # whether a signal may interrupt what runs now
        self._since = 0.0

    def __enter__(self) -> StopSignals:
        self.requested = None
        # Python raises ValueError for a handler that another thread sets.
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def attempt(self, work: Callable[[], T]) -> T | None:
        """Return the result of `work`; None if a signal came before or while it ran, which abandons it."""
        try:
            try:
                self._abandoning = True
                return None if self.requested else work()
            finally:
                self._abandoning = False
        except _Abandoned:  # outside of the `finally`: the signal may come just before it
            return None

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested is None:
            self.requested, self._since = number, now
            if self._abandoning:
                raise _Abandoned
        elif number != signal.SIGTERM or now > self._since + _ECHO_SECONDS:
            # A second request: the usual handlers take over, and get this signal too.
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


class _Abandoned(BaseException):
    """Raised by the first signal during `attempt`; a BaseException, which `except Exception` lets pass."""
