"""Worker processes of a loader: they end with the program, and what went wrong in one is one sentence.

A worker ignores Ctrl-C and SIGTERM, which reach every process of a group: the main process finishes its step
and needs the worker until then. The price is that nothing but the main process can end one, so that it must
do so on every way out: after an error by `end`, and at the end of the program by SIGKILL, before Python
waits for its child processes. A worker whose main process was killed ends by itself within seconds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing import active_children, queues, util
from multiprocessing.process import BaseProcess
from typing import Any
from weakref import WeakSet

import torch.distributed as dist
from torch.utils.data import DataLoader

from simscaleai.errors import UserError
from simscaleai.stopping import SIGNALS

_IN_WORKER = "DataLoader worker"
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
_CLUES = ("Too many open files", "received 0 items of ancdata")
_DESCRIPTORS, _SPARE = 8, 8  # of the pipes and batches of a worker, and of the main process
_started: WeakSet[BaseProcess] = WeakSet()


def prepare(loader: DataLoader[object]) -> None:
    """Let the workers of a loader start with `WorkerStart`; does nothing for a loader without workers.

    Of several training processes the workers are spawned: gloo's threads run by then, and a process that is
    forked while one of them holds a lock waits for that lock for ever. So the script needs
    `if __name__ == "__main__"`, and the dataset must be one that pickle takes.
    """
    if not getattr(loader, "num_workers", 0):
        return
    # a loader's own function still runs, as the second thing
    loader.worker_init_fn = WorkerStart(loader.worker_init_fn)
    if dist.is_available() and dist.is_initialized() and loader.multiprocessing_context is None:
        loader.multiprocessing_context = "spawn"


def start(loader: Any) -> Iterator[Any]:
    """`iter(loader)`, whose processes are killed when the program ends."""
    if not getattr(loader, "num_workers", 0):
        return iter(loader)
    # of those that have ended before, the exit codes say nothing about an error from now on
    _started.difference_update([p for p in _started if p.exitcode is not None])
    # the difference afterwards is this loader's workers, whichever others the program has
    before = set(active_children())
    try:
        with _transport():
            _reserve(_DESCRIPTORS * loader.num_workers + _SPARE)
            return _Batches(iter(loader))
    finally:
        if not _started:  # the first: multiprocessing runs this before it joins its processes
            util.Finalize(None, _kill_all, exitpriority=100)
        _started.update(set(active_children()) - before)


class _Batches:
    """Batches of worker processes."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with _transport():
            return next(self.batches)


@contextlib.contextmanager
def _transport() -> Iterator[None]:
    """An error of the pipes between the processes becomes one that says that it is theirs."""
    try:
        yield
    except (OSError, EOFError) as error:
        raise RuntimeError(f"{_IN_WORKER} failed: {error or type(error).__name__}") from error


def end(loader: DataLoader[object], batches: Iterator[object] | None) -> None:
    """End the processes behind the `batches` of `start` now; the next `start` makes others."""
    if not isinstance(batches, _Batches):
        return
    # a persistent loader would hand out its dead workers again
    loader._iterator = None
    iterator: Any = batches.batches
    with contextlib.suppress(OSError, RuntimeError):  # too few descriptors to say goodbye with
        iterator._shutdown_workers()
    for process in iterator._workers:
        if process.is_alive():
            process.kill()
        process.join()


def as_sentence(error: BaseException) -> UserError | None:
    """What a loader's error means, if it is one of those that a user can put right; else None.

    PyTorch raises an exception of a worker again with the text of its traceback in place of its message.
    """
    text = str(error)
    if isinstance(error, UserError):
        # the message is then a whole traceback, whose last line is "Class: sentence"
        caught = text.startswith("Caught ") and _IN_WORKER in text.splitlines()[0]
        return UserError(text.strip().splitlines()[-1].partition(": ")[2]) if caught else None
    if not isinstance(error, RuntimeError):
        return None
    # the kernel's message, PyTorch's when it passes descriptors, or the exit code of a worker
    if any(clue in text for clue in _CLUES) or (text.startswith(_IN_WORKER) and _out_of_them()):
        return UserError(
            "There are too few file descriptors for the worker processes of the data; raise the limit"
            " (`ulimit -n 4096`) or lower data.num_workers, and go on with --resume auto."
        )
    if not text.startswith(_IN_WORKER):
        return None
    reason = " ".join(text.split()).partition(". ")[0].rstrip(".")
    return UserError(
        f"A worker process of the data has ended ({reason}), most often for want of memory or file"
        " descriptors; lower data.num_workers or trainer.batch_size, and go on with --resume auto."
    )


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Raise a loader's own error in the block as `as_sentence` has it."""
    try:
        yield
    except (UserError, RuntimeError) as error:
        # the error itself where it is none of a loader
        raise as_sentence(error) or error from error.__cause__


def _reserve(count: int) -> None:
    """OSError unless `count` file descriptors are free: a loader that is half made cannot be undone."""
    taken: list[int] = []
    try:
        for _ in range(count):
            taken.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for descriptor in taken:
            os.close(descriptor)


def _out_of_them() -> bool:
    """Whether a worker said by its exit code that it had no file descriptors."""
    return any(process.exitcode in _NO_DESCRIPTORS for process in _started)


class WorkerStart:
    """The first thing in a worker; then it calls `then`, a `worker_init_fn`."""

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self.then: Callable[[int], None] | None = (
            # a loader that is used twice is wrapped once
            then.then if isinstance(then, WorkerStart) else then
        )

    def __call__(self, worker: int) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        # What cannot be sent is dropped by multiprocessing, and the main process would wait for ever.
        queues.Queue._on_queue_feeder_error = staticmethod(_cannot_send)  # type: ignore[attr-defined]
        sys.excepthook = lambda kind, error, trace: _cannot_send(error)
        if self.then is not None:
            self.then(worker)


def _cannot_send(error: BaseException, batch: object = None) -> None:
    """End the worker, which the main process notices; the exit code is the error's number."""
    # not `sys.exit`: in the thread of a queue it would end the thread alone
    os._exit(getattr(error, "errno", None) or 1)


def _kill_all() -> None:
    """End every worker there is."""
    if sys.platform != "win32":
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's raises an error for each of them
    for process in list(_started):
        if process.is_alive():
            process.kill()
            process.join()
