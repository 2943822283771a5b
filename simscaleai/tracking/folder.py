"""The folder of a run: whose it is, and what to do with the files of an earlier one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.storage.lock import FolderLock
from simscaleai.tracking.log import METRICS_FILE
from simscaleai.tracking.run_info import CONFIG_FILE, INFO_FILE
from simscaleai.tracking.trackers import TENSORBOARD_FOLDER, WANDB_FILE, WANDB_FOLDER

# What this package writes there.
RECORDS = (
    *(METRICS_FILE, CONFIG_FILE, INFO_FILE, TENSORBOARD_FOLDER, WANDB_FILE, WANDB_FOLDER),
    "eval_info*.json",  # of evaluations of its checkpoints
)


def is_run_name(name: str) -> bool:
    """Whether a name is that of a folder below `runs/`: "a", or folders in folders as "width/3"."""
    parts = name.split("/")
    return name.isprintable() and not any(
        part in ("", ".", "..") or Path(part).name != part or "\\" in part for part in parts
    )


def check_run_name(name: str) -> None:
    """Raise UserError unless a name is that of a folder below `runs/`."""
    if not is_run_name(name):
        raise UserError(
            f"The name {name!r} is not that of a folder below runs/, such as 'width/3'."
        )


class RunLock:
    """The lock of a run's folder, which its main process takes for all of them; a context manager.

    Args:
      folder: of the run.
      processes: those of the run; each makes the same calls.
    """

    def __init__(self, folder: Path, processes: Processes | None = None) -> None:
        self._processes = processes or Processes()
        self._lock = FolderLock(folder, "at work in", f"the run's folder {folder}")
        self._taken = False

    def take(self, create: bool = True) -> None:
        """Take the folder; nothing to do if it is taken already.

        Args:
          create: make a folder that is not there; otherwise there is nothing to take yet.

        Raises:
          UserError: another process has it; in all processes of the run.
        """
        if self._taken:
            return
        problem = None
        if self._processes.main and (create or self._lock.folder.exists()):
            try:
                self._lock.take()
            except UserError as error:
                problem = str(error)
        self._taken, problem = self._processes.share((self._lock.held, problem))
        if problem is not None:
            raise UserError(problem)

    def release(self) -> None:
        """Give the folder back."""
        self._lock.release()
        self._taken = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock in the block, and afterwards only if it was held before."""
        before = self._taken
        self.take()
        try:
            yield
        finally:
            if not before:
                self.release()

    @contextmanager
    def released_on_error(self) -> Iterator[None]:
        """Give the folder back if the block fails."""
        try:
            yield
        except BaseException:
            self.release()
            raise

    def __enter__(self) -> RunLock:
        self.take()
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


def make_room(folder: Path, patterns: Iterable[str]) -> Path | None:
    """Move an earlier run's records, and what else fits `patterns`, into a new folder beside this one.

    Returns:
      the new folder, `<folder>.old-<k>` with the first free k; None if there was nothing to move.
    """
    found = {path for pattern in (*RECORDS, *patterns) for path in folder.glob(pattern)}
    return move_aside(folder, sorted(found))


def move_aside(folder: Path, found: Sequence[Path]) -> Path | None:
    """Move files of `folder` as `make_room` does."""
    if not found:
        return None
    k = 1
    while (aside := folder.with_name(f"{folder.name}.old-{k}")).exists():
        k += 1
    aside.mkdir()
    for path in found:
        path.rename(aside / path.name)
    return aside
