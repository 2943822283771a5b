"""Ctrl-C and SIGTERM as requests to stop, for loops that save before they end.

    with StopSignals() as stop:
        while work_is_left and not stop.requested:
            one_step()
            stop.attempt(something_long)     # left at once when a signal comes

The first signal is only noted, and the loop ends at the next suitable step. A second one has its usual
effect. A scheduler's SIGTERM may arrive twice, directly and through torchrun: one that follows at once is
ignored.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ECHO_SECONDS = 2.0
T = TypeVar("T")


class Stopped(SystemExit):
    """The end of a run that was asked to stop and has saved its state.

    The exit code is 128 + the signal's number, as for a program that the signal ended, so that a shell's
    `&&`, a scheduler or torchrun does not take the work for done.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(128 + signal_number)
        self.step = step


class StopSignals:
    """See the module docstring. Outside the main thread, which alone gets signals, nothing is caught.

    Attributes:
      requested: the number of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._before: dict[int, Any] = {}
        self._abandoning = False
        self._since = 0.0

    def __enter__(self) -> StopSignals:
        self.requested = None
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
        """Return the result of `work`; None if a signal came before or during it (it is then abandoned)."""
        try:
            try:
                self._abandoning = True
                return None if self.requested else work()
            finally:
                self._abandoning = False
        except _Abandoned:
            return None

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested is None:
            self.requested, self._since = number, now
            if self._abandoning:
                raise _Abandoned
        elif number != signal.SIGTERM or now > self._since + _ECHO_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


class _Abandoned(BaseException):
    """Not an `Exception`, so that no `except Exception` in the block stops it."""
