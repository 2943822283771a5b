"""Ctrl-C and SIGTERM as a wish to stop, for loops that save before they end.

    with StopSignals() as stop:
        while work_is_left and not stop.requested:
            one_step()
            stop.attempt(something_long)     # left at once when a signal comes

The first signal is only noted, and the loop ends when it suits. The second one has its usual effect at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM)
T = TypeVar("T")


class Stopped(SystemExit):
    """The end of a run that was told to stop and has saved what it had.

    The exit code is 128 + the signal's number, as for a program that the signal ended: whoever started it
    (a shell's `&&`, a scheduler, torchrun) does not take the work for done.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(128 + signal_number)
        self.step = step


class StopSignals:
    """See the module docstring. Outside the main thread, where Python gives no signals, nothing is caught.

    Attributes:
      requested: the number of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._before: dict[int, Any] = {}
        self._abandoning = False

    def __enter__(self) -> StopSignals:
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
        """The result of `work`; None if a signal came before, or came during it and so ended it."""
        try:
            try:
                self._abandoning = True
                return None if self.requested else work()
            finally:
                self._abandoning = False
        except _Abandoned:
            return None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = number
        self._restore()
        if self._abandoning:
            raise _Abandoned

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


class _Abandoned(BaseException):
    """Not an `Exception`, so that no `except Exception` in the block stops it."""
