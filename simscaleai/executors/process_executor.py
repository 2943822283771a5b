"""Run tasks in processes of this machine; a killed one costs the item that it was at."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import parent_process, resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from typing import Any

from simscaleai.errors import UserError
from simscaleai.executors.executor import MAX_TRIES, T, killed_too_often, num_cpus
from simscaleai.executors.main_module import (
    UNGUARDED,
    WORKER,
    end_if_imported_by_worker,
    unguarded,
    without_main,
)


class Processes:
    """Runs tasks in `workers` processes of this machine.

    Each worker is a pool of one process: `concurrent.futures` gives up a whole pool when one of its
    processes is killed, and here the others go on.

    Args:
      workers: number of processes.
      needs_main: whether tasks need what the main program defines, which spawned processes then import.
    """

    def __init__(self, workers: int, *, needs_main: bool = False) -> None:
        self.workers, self._needs_main = workers, needs_main
        self._pools: dict[int, ProcessPoolExecutor] = {}

    def run(self, task: Callable[[int], T], items: Sequence[int]) -> Iterator[T]:
        end_if_imported_by_worker()
        waiting, tries = deque(items), dict.fromkeys(items, 0)
        running: dict[Future[T], tuple[int, int]] = {}  # (item, worker)

        def start(worker: int) -> None:
            if waiting:
                item = waiting.popleft()
                running[self._submit(worker, task, item)] = item, worker

        for worker in range(min(self.workers, len(items))):
            start(worker)
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item, worker = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool as error:
                    if (mistake := self._drop(worker)) is not None:
                        raise mistake from None
                    tries[item] += 1
                    if tries[item] >= MAX_TRIES:
                        raise killed_too_often(item) from error
                    # first in line: an item that kills workers ends the run early
                    waiting.appendleft(item)
                    start(worker)
                else:
                    start(worker)  # before the result is used: no worker waits for that
                    yield result

    def close(self) -> None:
        """Kill the workers: what they were at is done again by the next run."""
        for pool in self._pools.values():
            # a pool has no method that ends a running task
            for process in _processes(pool):
                process.kill()
            pool.shutdown(wait=True, cancel_futures=True)
        self._pools = {}

    def _submit(self, worker: int, task: Callable[[int], T], item: int) -> Future[T]:
        if worker not in self._pools:
            self._pools[worker] = ProcessPoolExecutor(
                1,
                _Context(),
                initializer=_begin_worker,
                initargs=(max(1, num_cpus() // self.workers),),
            )
        # the first task starts the process; one that had nothing to do may have been killed since
        with (
            suppress(BrokenProcessPool),
            without_main(unless=self._needs_main),
            _ctrl_c_later(),
        ):
            return self._pools[worker].submit(task, item)
        self._drop(worker)
        return self._submit(worker, task, item)

    def _drop(self, worker: int) -> UserError | None:
        """Drop a worker that has ended; return the error if it was not killed: the next one would end too."""
        pool = self._pools.pop(worker)
        processes = _processes(pool)
        pool.shutdown(wait=True)  # only then it is known how the process ended
        code = processes[0].exitcode if processes else None
        if code == UNGUARDED:
            return unguarded()
        # Windows has no signals, and a killed process has an exit code there
        if code is not None and code > 0 and os.name == "posix":
            return UserError(
                f"A worker process ended by itself (exit code {code}), as the next one would; what it printed"
                " says why."
            )
        return None


class _WorkerProcess(SpawnProcess):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{**settings, "name": WORKER})


class _Context(SpawnContext):
    """Spawns processes that are called `WORKER`."""

    Process = _WorkerProcess


def _processes(pool: ProcessPoolExecutor) -> list[BaseProcess]:
    return list((getattr(pool, "_processes", None) or {}).values())


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Block Ctrl-C, and so in a process that is started now, until that has begun and ignores it.

    Ctrl-C of a terminal reaches all processes, and one that is still importing would print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # which unblocks it, when it starts with the first process
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(threads: int) -> None:
    """Leave Ctrl-C to the main process, and end with it; libraries use `threads` threads."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # before they are imported
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):  # the children of this process shall not inherit it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
