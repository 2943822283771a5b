"""The checkpoints of a run in their folder.

    step_1000.pt    every `save_every` steps, the newest few of them; a folder step_1000/ if FSDP2 wrote it
    best.pt         of the evaluation with the best metric
    final.pt        of the last step
    last            leads to the newest of step_N and final

All of them can be resumed and run as a policy. Each appears whole or not at all, and an old one goes away
when a newer one is there: whenever the run is killed, a checkpoint is left.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.storage.atomic import clean, remove_folder
from simscaleai.storage.checkpoint import load_checkpoint, load_sharded_checkpoint, point_at
from simscaleai.tracking.folder import check_no_foreign_files, make_room, move_aside

FINAL, BEST, LAST = "final.pt", "best.pt", "last"
_STEPS = "step_"
PATTERNS = (f"{_STEPS}[0-9]*", FINAL, BEST, LAST)
_STEP = re.compile(r"step_(\d+)(\.pt)?")


@dataclass
class Newest:
    """What was found by looking for a checkpoint to go on from.

    Attributes:
      path: the newest one that can be read; None if there is none.
      step: of it.
      damaged: what is wrong with newer ones.
    """

    path: Path | None = None
    step: int = -1
    damaged: list[str] = field(default_factory=list)


class Checkpoints:
    """The checkpoints in `folder`, of which the newest `keep` steps stay (0: all).

    Args:
      folder: where they are.
      run_folder: where the run's records are; the same one, or the one that `folder` is in.
      keep: how many.
    """

    def __init__(self, folder: Path, run_folder: Path, keep: int = 0) -> None:
        self.folder, self.run_folder, self.keep = folder, run_folder, keep
        self._ours = self._claimed = False

    def steps(self) -> list[tuple[int, Path]]:
        """(step, path) of every checkpoint of a step, the newest first."""
        if not self.folder.is_dir():
            return []
        found = ((_STEP.fullmatch(path.name), path) for path in self.folder.iterdir())
        return sorted(((int(m[1]), path) for m, path in found if m), reverse=True)

    def newest(self, job: str | None = None) -> Newest:
        """Find the newest checkpoint that can be read, by reading it and those that are newer.

        Args:
          job: leave out checkpoints that were not written by this job.
        """
        found = Newest()
        final = self.folder / FINAL
        for path in [*([final] if final.exists() else []), *(path for _, path in self.steps())]:
            try:
                payload = _read(path)
                step = int(payload["step"])
            except (UserError, KeyError, TypeError, ValueError) as error:
                found.damaged.append(str(error))
                continue
            if job is not None and payload.get("job") != job:
                continue
            if step > found.step:
                found.path, found.step = path, step
            if path != final:
                break
        return found

    def go_on_from(self, path: Path | None) -> None:
        """The run goes on from `path`, or from nothing; what is here is its own, if `path` is here."""
        self._ours = path is None or path.parent.resolve() == self.folder

    def claim(self, step: int, processes: Processes) -> Path | None:
        """Once, before the first file: move away what is not of this run up to `step`; return where to.

        Of a run that goes on here, these are the steps that it makes again; of any other run, everything.
        """
        if self._claimed:
            return None
        self._claimed = True
        aside = None
        inside = PATTERNS if self.folder == self.run_folder else [self.folder.name]
        if processes.is_main:
            clean(self.folder)
            clean(self.run_folder)
        if processes.is_main and self._ours:
            check_no_foreign_files(self.run_folder, inside)
            aside = move_aside(self.folder, self._later_than(step))
        elif processes.is_main:
            aside = make_room(self.run_folder, inside)
        processes.barrier()
        return aside

    def written(self, path: Path) -> None:
        """Take note of a new checkpoint: have `last` lead to it, and delete those that are too many."""
        point_at(self.folder / LAST, path)
        for _, old in self.steps()[self.keep :] if self.keep else []:
            _remove(old)

    def _later_than(self, step: int) -> list[Path]:
        """Checkpoints of later steps, and those that do not say which step they are of."""
        later = [path for n, path in self.steps() if n > step]
        for path in (self.folder / FINAL, self.folder / BEST):
            if path.exists():
                try:
                    old = _read(path)["step"] <= step
                except (UserError, KeyError, TypeError):
                    old = False
                later += [] if old else [path]
        return later


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_folder(path)
    else:
        path.unlink()


def _read(path: Path) -> dict[str, Any]:
    """The payload of a checkpoint, all of which has been read once."""
    if not path.is_dir():
        return load_checkpoint(path)
    payload, folder = load_sharded_checkpoint(path)
    folder.verify()
    return payload
