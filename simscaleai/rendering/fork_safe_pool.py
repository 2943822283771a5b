"""Pool of threads that a forked process can use."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor


class ForkSafePool:
    """`size` threads, started at their first use.

    Threads do not survive a fork: a child process starts its own.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._executor: ThreadPoolExecutor | None = None
        self._pid = 0  # of the process that started the threads

    def executor(self) -> ThreadPoolExecutor:
        """Return the executor, with its threads started."""
        if self._executor is None or self._pid != os.getpid():
            self._executor = ThreadPoolExecutor(self._size, thread_name_prefix="render")
            self._pid = os.getpid()
        return self._executor

    def close(self) -> None:
        """End the threads that this process has started; harmless when called again."""
        if self._executor is not None and self._pid == os.getpid():
            self._executor.shutdown()
        self._executor = None
