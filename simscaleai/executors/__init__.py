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

`choose_executor` makes one of "slurm:partition=cpu,timeout_min=240". submitit and Ray are optional.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from simscaleai.errors import UserError, unknown_name
from simscaleai.executors.executor import MAX_TRIES, Executor, InProcess, Option
from simscaleai.executors.process_executor import Processes
from simscaleai.executors.ray_executor import Ray
from simscaleai.executors.slurm_executor import Slurm

__all__ = [
    "EXECUTORS",
    "MAX_TRIES",
    "Executor",
    "InProcess",
    "Processes",
    "Ray",
    "Slurm",
    "choose_executor",
    "executor_from_text",
]


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


def choose_executor(
    named: str | Executor | None,
    workers: int,
    items: int,
    folder: Path,
    *,
    needs_main: bool = False,
) -> Executor:
    """Return what runs the tasks of a command.

    Args:
      named: an executor, or a text for `executor_from_text`; by default this process for one worker, and
        processes for several.
      workers: the most tasks that run at once.
      items: number of tasks.
      folder: that every worker sees; logs go beside it.
      needs_main: see `Processes`.
    """
    if named is None and min(workers, items) <= 1:
        return InProcess()
    if named in (None, "processes"):
        return Processes(max(1, min(workers, items)), needs_main=needs_main)
    if isinstance(named, str):
        # beside the folder, which holds nothing but what it is for
        logs = folder.with_name(f"{folder.name}.{named.partition(':')[0]}")
        return executor_from_text(named, workers, logs)
    return named


def _number(text: str) -> Option:
    # whole numbers first: a count such as num_cpus=2 stays an int
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
