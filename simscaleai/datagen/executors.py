"""Run a task for many items on other people's engines: one small interface.

    for row in Processes(workers=8).run(make, range(100)):      # in the order in which they are done
        ...

    engine       what runs a task                                     where
    InProcess    this process                                         here
    Processes    `concurrent.futures`, one process for each worker    here
    Slurm        `submitit`, one array                                a SLURM cluster
    Ray          `ray.remote` tasks                                   here, or the cluster that is named

A task is a function of one item that any process may run, more than once: it leaves its result in a file or
returns something small. A worker that is killed costs the item that it was at, which another one does
again. An error that a task itself raises ends the run.

`executor_from_text` makes one of "slurm:partition=cpu,timeout_min=240". submitit and Ray are optional.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

from simscaleai import plugins
from simscaleai.datagen.spawn import without_main
from simscaleai.errors import MissingPackageError, UserError, unknown_name
from simscaleai.guards import reason

T = TypeVar("T")
Option = str | int | float
MAX_TRIES = 4
"""Times that an item is tried whose worker is killed; then it is the item that kills workers."""
_POLL_SECONDS = 0.2


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
                        raise _killed(item) from error
                    self._pools.pop(worker).shutdown(wait=False)
                    waiting.appendleft(item)
                    start(worker)
                else:
                    start(worker)  # before the result is used: no worker waits for that
                    yield result

    def close(self) -> None:
        """Kill the workers: what they were at is done again by the next run."""
        for pool in self._pools.values():
            for process in list((getattr(pool, "_processes", None) or {}).values()):
                process.kill()
            pool.shutdown(wait=True, cancel_futures=True)
        self._pools = {}

    def _submit(self, worker: int, task: Callable[[int], T], item: int) -> Future[T]:
        if worker not in self._pools:
            self._pools[worker] = ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), initializer=_begin_worker
            )
        with without_main(unless=self._needs_main):  # the first task starts the process
            return self._pools[worker].submit(task, item)


def _begin_worker() -> None:
    """Leave Ctrl-C to the main process, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class Slurm:
    """Runs tasks as a job array through submitit.

    Args:
      workers: the most tasks that run at once.
      folder: for the logs and results of submitit; all nodes must see it.
      cluster: "slurm", or "local" for processes of this machine, by which a command can be tried out.
      options: of `submitit.AutoExecutor.update_parameters`: timeout_min, mem_gb, cpus_per_task,
        slurm_partition, ... Of names that SLURM alone has, the prefix "slurm_" may be left out.
    """

    _SHARED = ("timeout_min", "mem_gb", "cpus_per_task", "name", "nodes", "tasks_per_node")

    def __init__(
        self, workers: int, folder: Path, *, cluster: str = "slurm", **options: Option
    ) -> None:
        submitit = _optional("submitit", "slurm")
        self.workers, self._local = workers, cluster == "local"
        if cluster not in ("slurm", "local"):
            raise unknown_name("SLURM cluster", cluster, ("slurm", "local"))
        try:
            self._executor = submitit.AutoExecutor(folder / "%j", cluster=cluster)
            named = {
                key if key in self._SHARED or key.startswith("slurm_") else f"slurm_{key}": value
                for key, value in options.items()
            }
            if not self._local:
                named["slurm_array_parallelism"] = workers
            self._executor.update_parameters(**named)
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            raise UserError(f"submitit refuses this executor: {error}") from error
        self._failures: tuple[type[Exception], ...] = (
            submitit.core.utils.UncompletedJobError,
            submitit.core.utils.FailedJobError,
        )
        self._jobs: dict[Any, int] = {}

    def run(self, task: Callable[[int], T], items: Sequence[int]) -> Iterator[T]:
        waiting, tries = deque(items), dict.fromkeys(items, 0)
        while waiting or self._jobs:
            self._submit(task, waiting)
            done = [job for job in self._jobs if job.done()]
            if not done:
                threading.Event().wait(_POLL_SECONDS)
            for job in done:
                item = self._jobs.pop(job)
                error = job.exception()
                if error is None:
                    yield job.result()
                elif not isinstance(error, self._failures) or _raised(error) is not None:
                    raise _raised(error) or error
                else:  # killed, or out of time
                    tries[item] += 1
                    if tries[item] >= MAX_TRIES:
                        raise _killed(item) from error
                    waiting.append(item)

    def close(self) -> None:
        """Cancel the jobs that are not done."""
        for job in self._jobs:
            with suppress(Exception):  # scancel of a job that ended just now
                job.cancel()
        self._jobs = {}

    def _submit(self, task: Callable[[int], T], waiting: deque[int]) -> None:
        """Submit what is waiting: as one array, or as many as may run on this machine."""
        if not waiting:
            return
        room = self.workers - len(self._jobs) if self._local else len(waiting)
        items = [waiting.popleft() for _ in range(min(room, len(waiting)))]
        if items:
            jobs = self._executor.map_array(task, items)
            self._jobs |= dict(zip(jobs, items, strict=True))


class Ray:
    """Runs tasks on Ray: on a Ray of this machine that is bound to loopback, unless a cluster is named.

    Args:
      workers: the most tasks that run at once.
      address: of the cluster to join, "auto" for the one of this machine; "" joins none.
      options: of `ray.remote`: num_cpus, num_gpus, memory, max_retries.
    """

    def __init__(self, workers: int, *, address: str = "", **options: Option) -> None:
        self._ray = _optional("ray", "ray")
        self.workers, self._address = workers, address
        self._options = {"num_cpus": 1, "max_retries": MAX_TRIES - 1, **options}
        self._started = False

    def run(self, task: Callable[[int], T], items: Sequence[int]) -> Iterator[T]:
        ray = self._ray
        self._start()
        remote = ray.remote(**self._options)(_call)
        shared = ray.put(task)  # once, and not with each task
        waiting, running = deque(items), dict[Any, int]()
        while waiting or running:
            while waiting and len(running) < self.workers:
                item = waiting.popleft()
                running[remote.remote(shared, item)] = item
            for reference in ray.wait(list(running), num_returns=1)[0]:
                item = running.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause if isinstance(error.cause, UserError) else error from error
                except (
                    ray.exceptions.WorkerCrashedError,
                    ray.exceptions.OutOfMemoryError,
                ) as error:
                    raise _killed(item) from error
                yield result

    def close(self) -> None:
        """End the tasks: with the Ray that was started here, or by leaving the cluster."""
        if self._started:
            self._ray.shutdown()
            self._started = False

    def _start(self) -> None:
        if self._ray.is_initialized():  # the caller's own
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # workers get this process's plugins and import path, wherever they are
        variables = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        if names := os.environ.get(plugins.VARIABLE):
            variables[plugins.VARIABLE] = names
        settings: dict[str, Any] = {"runtime_env": {"env_vars": variables}, "log_to_driver": False}
        if self._address:
            settings["address"] = self._address
        else:
            settings |= {
                "address": "local",  # whatever RAY_ADDRESS says
                "num_cpus": self.workers * int(self._options["num_cpus"]),
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
            }
        try:
            self._ray.init(**settings, logging_level="ERROR")
        except Exception as error:  # a slow start is a bare Exception in Ray
            raise UserError(f"Ray cannot be started or joined: {reason(error)}.") from error
        self._started = True


def _call(task: Callable[[int], T], item: int) -> T:
    """Run a task in a Ray worker."""
    return task(item)


class _Names(Protocol):
    def __call__(self, workers: int, folder: Path, **options: Any) -> Executor: ...


def _processes(workers: int, folder: Path, **options: Option) -> Executor:
    if options:
        raise UserError(
            f"The executor 'processes' takes no option, and {next(iter(options))!r} is one."
        )
    return Processes(workers)


EXECUTORS: dict[str, _Names] = {
    "processes": _processes,
    "slurm": lambda workers, folder, **options: Slurm(workers, folder, **options),
    "ray": lambda workers, folder, **options: Ray(workers, **options),
}
"""{name: a function of (number of workers, a folder that all of them see, options) to an executor}."""


def executor_from_text(text: str, workers: int, folder: Path) -> Executor:
    """Return the executor that a text such as "ray:address=auto,num_cpus=2" names.

    Args:
      text: "processes", "slurm" or "ray", and options after a colon.
      workers: the most tasks that run at once.
      folder: that every worker sees, for logs.

    Raises:
      UserError: there is no such executor or option.
      MissingPackageError: the package that it needs is not installed.
    """
    name, _, words = text.partition(":")
    if name not in EXECUTORS:
        raise unknown_name("executor", name, EXECUTORS)
    options: dict[str, Option] = {}
    for word in filter(None, words.split(",")):
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise UserError(
                f"The option {word!r} of the executor {name!r} is not of the form name=value."
            )
        options[key] = _number(value)
    return EXECUTORS[name](workers, folder, **options)


def _number(text: str) -> Option:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _optional(package: str, extra: str) -> ModuleType:
    """Import an optional package; MissingPackageError with the remedy if it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f"The executor {extra!r} needs {package}, which is not installed; install it with: pip install"
            f" 'simscaleai[{extra}]'."
        ) from error


def _raised(error: Exception | None) -> UserError | None:
    """Return the UserError behind an error of submitit, which gives the text of its traceback; or None."""
    if isinstance(error, UserError):
        return error
    lines = str(error).strip().splitlines()
    found = [line for line in lines if line.startswith("simscaleai.") and "Error: " in line]
    return UserError(found[-1].partition(": ")[2]) if found else None


def _killed(item: int) -> UserError:
    return UserError(
        f"The worker processes for shard {item} were killed {MAX_TRIES} times, perhaps for lack of memory or"
        " time; run again with --resume and fewer --workers or smaller shards."
    )
