"""Run tasks in processes of this machine; a killed one costs the item that it was at."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from simscaleai.executors.executor import MAX_TRIES, T, killed_too_often, num_cpus
from simscaleai.executors.main_module import without_main


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
                    tries[item] += 1
                    if tries[item] >= MAX_TRIES:
                        raise killed_too_often(item) from error
                    self._pools.pop(worker).shutdown(wait=False)
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
            for process in list((getattr(pool, "_processes", None) or {}).values()):
                process.kill()
            pool.shutdown(wait=True, cancel_futures=True)
        self._pools = {}

    def _submit(self, worker: int, task: Callable[[int], T], item: int) -> Future[T]:
        if worker not in self._pools:
            self._pools[worker] = ProcessPoolExecutor(
                1,
                multiprocessing.get_context("spawn"),
                initializer=_begin_worker,
                initargs=(max(1, num_cpus() // self.workers),),
            )
        with without_main(unless=self._needs_main):  # the first task starts the process
            return self._pools[worker].submit(task, item)


def _begin_worker(threads: int) -> None:
    """Leave Ctrl-C to the main process, and end with it; libraries use `threads` threads."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # before they are imported
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
