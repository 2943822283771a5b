"""Worker processes of any program: a script, guarded or not, a notebook, standard input.

    process, pipe = spawn(serve, job, registered)      # serve(pipe, job, registered) runs in the process

A process that Python spawns imports the main program again, which may then run its work again. Ours do so
only if they need an environment or a model that is defined there. From other modules these are imported
directly.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from simscaleai.errors import UserError
from simscaleai.executors.main_module import without_main
from simscaleai.rollout.registered import Registered

_NAME = "simscaleai-datagen"
UNGUARDED = 96
"""Exit code of a process that was about to generate data while it imported the main program."""


def spawn(
    serve: Callable[[Connection, Any, Registered], None], job: Any, registered: Registered
) -> tuple[Any, Connection]:
    """Start a process that runs `serve`; return it and this end of its pipe."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, job, registered), name=_NAME, daemon=True)
    with without_main(unless=registered.needs_main):
        process.start()
    theirs.close()
    return process, ours


def end_if_imported_by_worker() -> None:
    """Exit silently if this is a worker that was only importing the main program.

    The process that started it reports the mistake.
    """
    process = multiprocessing.current_process()
    if process.name == _NAME and getattr(process, "_inheriting", False):
        os._exit(UNGUARDED)


def how_it_ended(exit_code: int | None) -> UserError:
    """Return the error for a worker process that has ended by itself."""
    if exit_code == UNGUARDED:
        return UserError(
            "Worker processes import this program, as something that they need is defined in it, and then it"
            ' would generate data again; put what it does under `if __name__ == "__main__":`, or use one'
            " worker."
        )
    return UserError(
        f"A worker process ended by itself (exit code {exit_code}), perhaps for lack of memory; finished"
        " episodes are kept, run again with --resume and fewer --workers."
    )
