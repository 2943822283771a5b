"""One run in its folder: lock, checkpoints, resuming and stop signals, for imitation and for RL.

    run = Run(Path("runs/a"), processes)
    path = run.newest()                       # a checkpoint to resume from, or None
    with run.at_work(), run.stop:
        run.archive_earlier(step)             # move the files of an earlier run
        while step < last and not run.stop.requested:
            ...
            run.saved = (step, path)          # an error of a full disk names it

All processes of the run make the same calls; only the main one touches files.
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
      folder: folder of settings and records.
      processes: the processes of the run.
      checkpoint_folder: folder of the checkpoints; `folder` itself by default.
      keep: number of `step_N` checkpoints to keep; 0 for all.
      step_of: returns the step of a checkpoint, given its payload.

    Attributes:
      lock: lock of the folder; no other process writes there while it is held.
      checkpoints: the checkpoints in `checkpoint_folder`.
      stop: Ctrl-C and SIGTERM, as a request to stop.
      saved: step and path of the newest checkpoint that was written or resumed from; None if there is none.
      notes: sentences to print before the first step.
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
        self._at_work = False

    @contextmanager
    def at_work(self) -> Iterator[Run]:
        """Hold the lock in the block, which may contain another one.

        Raises:
          UserError: another process uses the folder.
          CannotWriteError: the disk is full or the like; names the newest checkpoint.
        """
        inside, self._at_work = self._at_work, True
        try:
            with self.lock:
                yield self
        except CannotWriteError as error:
            if inside:  # the outer block says it
                raise
            # the user must know how much of the training survives
            kept = "There is no checkpoint yet; run the same command again."
            if self.saved is not None:
                step, path = self.saved
                kept = f"The checkpoint of step {step} is kept, {path}; resume with --resume auto."
            raise error.with_sentence(kept) from error
        finally:
            self._at_work = inside

    def newest(self, job: str | None = None) -> Path | None:
        """Return the newest checkpoint that can be read, equal in all processes; None if there is none.

        The lock is taken first, so that no other process writes the checkpoint. If there is no checkpoint,
        not even a damaged one, the files in the folder count as this run's own and are not archived.

        Args:
          job: ignore checkpoints that other jobs of `torchrun` wrote.
        """
        self.lock.take(create=False)
        # one process reads, so that all take the same checkpoint even if another one appears meanwhile
        newest = self.checkpoints.newest(job) if self.processes.is_main else None
        newest = self.processes.broadcast(newest)
        assert newest is not None
        self.notes += [f"Left out a damaged checkpoint. {text}" for text in newest.damaged]
        if newest.path is not None:
            self.notes.append(f"Resuming from {newest.path}, step {newest.step}.")
        elif job is None and not newest.damaged:  # a run that stopped before its first checkpoint
            self.checkpoints.resume(None)
        return newest.path

    def resume(self, path: Path, step: int) -> None:
        """Note that the checkpoint `path` of `step` has been loaded."""
        self.saved = (step, path)
        self.checkpoints.resume(path)

    def archive_earlier(self, step: int) -> None:
        """Lock the folder and archive the files of an earlier run; a second call does nothing."""
        self.lock.take()
        aside = self.checkpoints.archive_earlier(step, self.processes)
        if aside:
            self.notes.append(f"Moved the files of an earlier run to {aside}.")

    def all_stop(self) -> bool:
        """Return whether a stop was requested in any process; a collective operation."""
        # a signal may reach some processes only
        requested = torch.tensor(float(self.stop.requested is not None))
        return bool(self.processes.all_reduce(requested) > 0)
