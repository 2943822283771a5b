"""Run tasks as a job array of a SLURM cluster, through submitit."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from simscaleai.errors import UserError, unknown_name
from simscaleai.executors.executor import MAX_TRIES, Option, T, import_engine, killed_too_often

_POLL_SECONDS = 0.2  # the end of a job can only be polled


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
        submitit = import_engine("submitit", "slurm")
        self.workers, self._local = workers, cluster == "local"
        if cluster not in ("slurm", "local"):
            raise unknown_name("SLURM cluster", cluster, ("slurm", "local"))
        try:
            self._executor = submitit.AutoExecutor(folder / "%j", cluster=cluster)
            named = {
                key if key in self._SHARED or key.startswith("slurm_") else f"slurm_{key}": value
                for key, value in options.items()
            }
            # the local engine has no such limit: `_submit` keeps it there
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
                        raise killed_too_often(item) from error
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


def _raised(error: Exception | None) -> UserError | None:
    """Return the UserError behind an error of submitit, which gives the text of its traceback; or None."""
    if isinstance(error, UserError):
        return error
    lines = str(error).strip().splitlines()
    found = [line for line in lines if line.startswith("simscaleai.") and "Error: " in line]
    return UserError(found[-1].partition(": ")[2]) if found else None
