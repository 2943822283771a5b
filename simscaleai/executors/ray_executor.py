"""Run tasks on Ray, of this machine or of a cluster."""

from __future__ import annotations

import importlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from simscaleai import plugins
from simscaleai.errors import UserError
from simscaleai.executors.executor import MAX_TRIES, Option, T, import_engine, killed_too_often
from simscaleai.guards import reason

_STARTS = 4  # attempts to start Ray, if it is too slow


class Ray:
    """Runs tasks on Ray: on a Ray of this machine that is bound to loopback, unless a cluster is named.

    Args:
      workers: the most tasks that run at once.
      address: of the cluster to join, "auto" for the one of this machine; "" joins none.
      options: of `ray.remote`: num_cpus, num_gpus, memory, max_retries.
    """

    def __init__(self, workers: int, *, address: str = "", **options: Option) -> None:
        self._ray = import_engine("ray", "ray")
        self.workers, self._address = workers, address
        self._options = {"num_cpus": 1, "max_retries": MAX_TRIES - 1, **options}
        self._started = False

    def run(self, task: Callable[[int], T], items: Sequence[int]) -> Iterator[T]:
        ray = self._ray
        self._start()
        remote = ray.remote(**self._options)(_call)
        shared = ray.put(task)  # once, and not with each task
        place = os.getcwd()
        waiting, running = deque(items), dict[Any, int]()
        while waiting or running:
            while waiting and len(running) < self.workers:
                item = waiting.popleft()
                running[remote.remote(shared, item, place)] = item
            for reference in ray.wait(list(running), num_returns=1)[0]:
                # Ray has tried a killed task again itself, `max_retries` times
                item = running.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause if isinstance(error.cause, UserError) else error from error
                except (
                    ray.exceptions.WorkerCrashedError,
                    ray.exceptions.OutOfMemoryError,
                ) as error:
                    raise killed_too_often(item) from error
                except ray.exceptions.RayError as error:  # a process of Ray's own has ended
                    raise UserError(
                        f"Ray failed at part {item} ({reason(error)}); run again with --resume."
                    ) from error
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
        # a cluster has its own limits; here, Ray may use what --workers says and no more
        if self._address:
            self._init({**settings, "address": self._address})
        else:
            settings |= {
                "address": "local",  # whatever RAY_ADDRESS says
                "num_cpus": self.workers * int(self._options["num_cpus"]),
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
            }
            with _loopback():
                self._init(settings)
            self._check_loopback()
        self._started = True

    def _init(self, settings: dict[str, Any]) -> None:
        for further in reversed(range(_STARTS)):
            try:
                self._ray.init(**settings, logging_level="ERROR")
                break
            except Exception as error:  # a slow start is a bare Exception in Ray
                self._ray.shutdown()
                # Ray gives itself half a minute, which a machine that is busy with other things exceeds
                if not (further and "timed out" in str(error)):
                    raise UserError(f"Ray cannot be started or joined: {reason(error)}.") from error

    def _check_loopback(self) -> None:
        """Raise UserError if other machines reach the Ray that was started: it runs whatever they send."""
        address = self._ray.util.get_node_ip_address()
        if not address.startswith("127."):
            self._ray.shutdown()
            raise UserError(
                f"Ray would listen at {address}, where other machines reach it; use another version of Ray"
                " or name a cluster with ray:address=..."
            )


@contextmanager
def _loopback() -> Iterator[None]:
    """Let Ray listen at 127.0.0.1 if it is told to.

    It replaces that by an address that other machines reach, except on Windows and macOS, where it does
    without clusters.
    """
    try:
        constants: Any = importlib.import_module("ray._private.ray_constants")
    except ImportError:  # another version; `_check_loopback` sees what came of it
        yield
        return
    before = getattr(constants, "ENABLE_RAY_CLUSTER", True)
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _call(task: Callable[[int], T], item: int, place: str) -> T:
    """Run a task in a Ray worker, in the working directory `place` if its machine has that."""
    with suppress(OSError):
        os.chdir(place)
    return task(item)
