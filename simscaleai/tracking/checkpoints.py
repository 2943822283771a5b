"""The checkpoints of a run in their folder.

    step_1000.pt    every `save_every` steps, the newest few of them; a folder step_1000/ if FSDP2 wrote it
    best.pt         the evaluation with the best metric
    final.pt        the last step
    last, last.pt   the newest one: a link to step_N or final, or a file that is overwritten

Each can be resumed from and run as a policy. Each appears complete or not at all, and an old one is deleted
only after a newer one has appeared: a run that is killed at any time leaves a checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.storage.atomic import clean, remove_folder
from simscaleai.storage.checkpoint import (
    Payload,
    load_checkpoint,
    load_sharded_checkpoint,
    point_at,
)
from simscaleai.tracking.folder import archive, archive_run, check_no_foreign_files

FINAL, BEST, LAST, LAST_FILE = "final.pt", "best.pt", "last", "last.pt"
_STEPS = "step_"
PATTERNS = (f"{_STEPS}[0-9]*", FINAL, BEST, LAST, LAST_FILE)
_STEP = re.compile(r"step_(\d+)(\.pt)?")


def training_step(payload: Payload) -> int:
    """Return the step of a checkpoint of imitation learning."""
    return int(payload["step"])


@dataclass
class Newest:
    """The result of looking for a checkpoint to resume from.

    Attributes:
      path: the newest one that can be read; None if there is none.
      step: its step; -1 if there is none.
      damaged: a sentence for each newer one that cannot be read.
    """

    path: Path | None = None
    step: int = -1
    damaged: list[str] = field(default_factory=list)


class Checkpoints:
    """The checkpoints of a run, of which the newest `keep` of `step_N` are kept.

    Args:
      folder: folder of the checkpoints.
      run_folder: folder of the run's records; `folder` itself or its parent.
      keep: number of `step_N` checkpoints to keep; 0 for all.
      step_of: returns the step of a payload; raises KeyError, TypeError, ValueError or UserError for the
        payload of another kind of run.
    """

    def __init__(
        self,
        folder: Path,
        run_folder: Path,
        keep: int = 0,
        step_of: Callable[[Payload], int] = training_step,
    ) -> None:
        self.folder, self.run_folder, self.keep, self.step_of = folder, run_folder, keep, step_of
        # whether the files in the folder are this run's, and whether others have been archived
        self._own = self._archived = False

    def steps(self) -> list[tuple[int, Path]]:
        """Return (step, path) of every `step_N` checkpoint, the newest first."""
        if not self.folder.is_dir():
            return []
        matches = ((_STEP.fullmatch(path.name), path) for path in self.folder.iterdir())
        return sorted(((int(m[1]), path) for m, path in matches if m), reverse=True)

    def newest(self, job: str | None = None) -> Newest:
        """Find the newest checkpoint that can be read; it and all newer ones are read completely.

        Args:
          job: ignore checkpoints of other jobs.
        """
        newest = Newest()
        # `best.pt` is hardly ever the newest: reading it is worth it only without `step_N`
        fixed = [path for path in self._fixed() if path.name != BEST or not self.steps()]
        for path in [*fixed, *(path for _, path in self.steps())]:
            try:
                payload = _read(path)
                step = self.step_of(payload)
            except (UserError, KeyError, TypeError, ValueError) as error:
                newest.damaged.append(str(error))
                continue
            if job is not None and payload.get("job") != job:
                continue
            if step > newest.step:
                newest.path, newest.step = path, step
            if path not in fixed:
                break  # `steps` are sorted: the others are older
        return newest

    def resume(self, path: Path | None) -> None:
        """Note that the run resumes from `path` (None: from nothing); files beside `path` are its own."""
        self._own = path is None or path.parent.resolve() == self.folder.resolve()

    def archive_earlier(self, step: int, processes: Processes) -> Path | None:
        """Archive the files of other runs, once, before this run writes its first file.

        If this run resumes from a checkpoint of the folder, only checkpoints of later steps are archived,
        since it will repeat these steps; otherwise all files of the earlier run are.

        Returns:
          The folder of the archived files; None if there were none.
        """
        if self._archived:
            return None
        self._archived = True
        aside = None
        inside = PATTERNS if self.folder == self.run_folder else [self.folder.name]
        if processes.is_main:  # temporary files of killed processes
            clean(self.folder)
            clean(self.run_folder)
        if processes.is_main and self._own:
            check_no_foreign_files(self.run_folder, inside)
            aside = archive(self.folder, self._later_than(step))
        elif processes.is_main:
            aside = archive_run(self.run_folder, inside)
        processes.barrier()  # no process may write before the old files are moved
        return aside

    def written(self, path: Path) -> None:
        """Point `last` to a new checkpoint, and delete the oldest ones beyond `keep`."""
        # in this order, so that `last` never points to a deleted checkpoint
        point_at(self.folder / LAST, path)
        for _, old in self.steps()[self.keep :] if self.keep else []:
            _remove(old)

    def _fixed(self) -> list[Path]:
        """Return the existing checkpoints without a step in their names."""
        return [p for p in (self.folder / n for n in (FINAL, LAST_FILE, BEST)) if p.exists()]

    def _later_than(self, step: int) -> list[Path]:
        """Return the checkpoints of later steps, and those whose step cannot be read."""
        later = [path for n, path in self.steps() if n > step]
        for path in self._fixed():
            try:
                is_earlier = self.step_of(_read(path)) <= step
            except (UserError, KeyError, TypeError, ValueError):
                is_earlier = False
            later += [] if is_earlier else [path]
        return later


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_folder(path)
    else:
        path.unlink()


def _read(path: Path) -> Payload:
    """Return the payload of a checkpoint after reading all of its bytes."""
    if not path.is_dir():
        return load_checkpoint(path)
    payload, folder = load_sharded_checkpoint(path)
    folder.verify()  # shards are memory-mapped: damage would show only on resuming
    return payload
