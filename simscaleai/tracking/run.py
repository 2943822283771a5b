"""One run in its folder: lock, checkpoints, resume and stop signals; for imitation and for RL.

    run = Run(Path("runs/a"), processes)
    path = run.newest()                       # a checkpoint to resume from, or None
    with run.at_work(), run.stop:
        run.archive_earlier(step)             # what an earlier run left here
        while step < last and not run.stop.requested:
            ...
            run.saved = (step, path)          # what a full disk leaves

Every process of the run makes the same calls; the main one alone touches files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from simscaleai.distributed import Processes
from simscaleai.stopping import StopSignals
from simscaleai.storage.disk import CannotWriteError
from simscaleai.tracking.checkpoints import Checkpoints, Payload, training_step
from simscaleai.tracking.folder import RunLock


class Run:
    """See the module docstring.

    Args:
      folder: settings and records of the run.
      processes: the processes of the run.
      checkpoint_folder: `folder` itself by default.
      keep: number of `step_N` checkpoints that stay; 0 for all.
      step_of: the step of a checkpoint, from its payload.

    Attributes:
      lock: of the folder; nobody else may write while it is held.
      checkpoints: those in `checkpoint_folder`.
      stop: Ctrl-C and SIGTERM, as a wish to stop.
      saved: step and path of the newest checkpoint that was written or resumed from; None if there is none.
      notes: what there is to say before the first step.
    """

    def __init__(
        self,
        folder: Path,
        processes: Processes | None = None,
        *,
        checkpoint_folder: Path | None = None,
        keep: int = 0,
        step_of: Callable[[Payload], int] = training_step,
    ) -> None:
        self.folder, self.processes = folder, processes or Processes()
        self.lock = RunLock(folder, self.processes)
        self.checkpoints = Checkpoints(checkpoint_folder or folder, folder, keep, step_of)
        self.stop = StopSignals()
        self.saved: tuple[int, Path] | None = None
        self.notes: list[str] = []

    @contextmanager
    def at_work(self) -> Iterator[Run]:
        """Hold the lock in the block.

        Raises:
          UserError: another process is at work in the folder.
          CannotWriteError: the disk is full or the like; says which checkpoint is left.
        """
        try:
            with self.lock:
                yield self
        except CannotWriteError as error:
            kept = "There is no checkpoint yet; run the same command again."
            if self.saved is not None:
                step, path = self.saved
                kept = f"The checkpoint of step {step} is kept, {path}; resume with --resume auto."
            raise error.with_sentence(kept) from error

    def newest(self, job: str | None = None) -> Path | None:
        """Return the newest checkpoint that can be read, the same in all processes; None if there is none.

        The lock is taken first: nobody else may be writing what this run resumes from. If there is nothing
        to resume, not even a damaged checkpoint, what is in the folder counts as this run's own.

        Args:
          job: leave out checkpoints that were not written by this job of `torchrun`.
        """
        self.lock.take(create=False)
        newest = self.checkpoints.newest(job) if self.processes.is_main else None
        newest = self.processes.broadcast(newest)
        assert newest is not None
        self.notes += [f"Left out a damaged checkpoint. {text}" for text in newest.damaged]
        if newest.path is not None:
            self.notes.append(f"Going on from {newest.path}, step {newest.step}.")
        elif job is None and not newest.damaged:
            self.checkpoints.resume(None)
        return newest.path

    def resume(self, path: Path, step: int) -> None:
        """Note that `path`, a checkpoint of `step`, has been loaded."""
        self.saved = (step, path)
        self.checkpoints.resume(path)

    def archive_earlier(self, step: int) -> None:
        """Take the folder, and archive what an earlier run left in it; the second call does nothing."""
        self.lock.take()
        aside = self.checkpoints.archive_earlier(step, self.processes)
        if aside:
            self.notes.append(f"Moved the files of an earlier run to {aside}.")

    def all_stop(self) -> bool:
        """Return whether a stop was requested in any process; a collective operation."""
        requested = torch.tensor(float(self.stop.requested is not None))
        return bool(self.processes.all_reduce(requested) > 0)
