"""The folder of a run: names, the lock, and archiving the files of an earlier run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from simscaleai.distributed import Processes
from simscaleai.errors import ExistingFileError, UserError
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.storage.lock import FolderLock
from simscaleai.tracking.log import METRICS_FILE
from simscaleai.tracking.run_info import CONFIG_FILE, INFO_FILE
from simscaleai.tracking.trackers import TENSORBOARD_FOLDER, WANDB_FILE, WANDB_FOLDER

EVALUATIONS = "eval_info*.json"  # results of `simscale eval`
# Files and folders that this package writes into the folder of a run.
RECORDS = (
    *(METRICS_FILE, CONFIG_FILE, INFO_FILE, TENSORBOARD_FOLDER, WANDB_FILE, WANDB_FOLDER),
    EVALUATIONS,
)
MAX_LINE = 2**20  # bytes read from a file to recognize it as a run's


def is_run_name(name: str) -> bool:
    """Return whether `name` is a valid name of a run: a relative path below `runs/` such as "width/3"."""
    # "..", empty parts and backslashes (a separator on Windows) could lead out of the folder
    parts = name.split("/")
    return name.isprintable() and not any(
        part in ("", ".", "..") or Path(part).name != part or "\\" in part for part in parts
    )


def check_run_name(name: str) -> None:
    """Raise UserError unless `name` is a valid name of a run; see `is_run_name`."""
    if not is_run_name(name):
        raise UserError(
            f"The name {name!r} is not that of a folder below runs/, such as 'width/3'."
        )


def lies_in(path: str | Path, folder: str | Path) -> bool:
    """Return whether `path` is `folder` or lies in it; links are not followed."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def check_path_in_file(
    value: str, setting: str, config: str | Path, flag: str, folder: Path
) -> None:
    """Raise UserError if a settings file names an output path outside of `folder`.

    Settings files may come from somebody else; on the command line, any path is allowed.

    Args:
      value: the path.
      setting: name of the setting.
      config: the settings file.
      flag: the command line flag of the setting, for the error.
      folder: the folder in which the path must lie.
    """
    if not value.isprintable() or not lies_in(value, folder):
        raise UserError(
            f"{config}: {setting} is {value!r}, which leads out of {os.path.abspath(folder)}; a file may not"
            f" say that, but {flag} on the command line may."
        )


class RunLock:
    """The lock of a run folder, held by the main process for all processes; a context manager.

    Args:
      folder: the run folder.
      processes: the processes of the run, which all make the same calls.
    """

    def __init__(self, folder: Path, processes: Processes | None = None) -> None:
        self._processes = processes or Processes()
        self._lock = FolderLock(folder, "at work in", f"the run's folder {folder}")
        self._taken = False

    def take(self, create: bool = True) -> None:
        """Take the lock, unless it is held already.

        Args:
          create: create a missing folder; with False, a missing folder is not locked.

        Raises:
          UserError: another process holds the lock; raised in all processes of the run.
        """
        if self._taken:
            return
        # The error is broadcast: other processes would wait for ever in their next collective operation.
        problem = None
        if self._processes.is_main and (create or self._lock.folder.exists()):
            try:
                self._lock.take()
            except UserError as error:
                problem = str(error)
        self._taken, problem = self._processes.broadcast((self._lock.held, problem))
        if problem is not None:
            raise UserError(problem)

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()
        self._taken = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock in the block; afterwards, release it unless it was held before."""
        before = self._taken
        self.take()
        try:
            yield
        finally:
            if not before:
                self.release()

    @contextmanager
    def released_on_error(self) -> Iterator[None]:
        """Release the lock if the block fails."""
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


def archive_run(folder: Path, patterns: Iterable[str]) -> Path | None:
    """Move the records of an earlier run and files that match `patterns` into a new folder beside `folder`.

    Returns:
      The new folder, `<folder>.old-<k>` with the first free k; None if there was nothing to move.

    Raises:
      ExistingFileError: files with these names exist, but no run wrote them.
    """
    found = _files(folder, patterns)
    check_no_foreign_files(folder, patterns)
    return archive(folder, found)


def check_no_foreign_files(folder: Path, patterns: Iterable[str]) -> None:
    """Raise ExistingFileError if files have the names of a run's files, but no run wrote them."""
    found = _files(folder, patterns)
    if found and not _is_run(folder, found):
        names = ", ".join(path.name for path in found)
        raise ExistingFileError(
            f"{folder} holds {names}, which no run has written; choose another folder, or move what is there."
        )


def _files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({path for pattern in (*RECORDS, *patterns) for path in folder.glob(pattern)})


def _is_run(folder: Path, found: Sequence[Path]) -> bool:
    """Return whether a file shows that a run wrote the folder: records of steps, or a checkpoint."""
    if all(path.match(EVALUATIONS) for path in found):  # no other program uses this name
        return True
    if _has_steps(folder / METRICS_FILE) or _has_starts(folder / INFO_FILE):
        return True
    inside = (p for path in found for p in (path.iterdir() if path.is_dir() else (path,)))
    return any(_is_checkpoint(path) for path in inside if path.suffix == ".pt" or path.is_dir())


def _has_steps(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return isinstance(json.loads(file.readline(MAX_LINE))["step"], int | float)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # deeply nested JSON
        return False


def _has_starts(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            starts = json.loads(file.read(MAX_LINE))
        return isinstance(starts, list) and "start_step" in starts[0]
    except (OSError, ValueError, IndexError, TypeError, RecursionError):
        return False


def _is_checkpoint(path: Path) -> bool:
    try:
        return load_checkpoint(path).get("kind") == "policy"
    except (UserError, OSError):
        return False


def archive(folder: Path, found: Sequence[Path]) -> Path | None:
    """Move the files `found` out of `folder`, as `archive_run` does."""
    if not found:
        return None
    k = 1  # archives are never overwritten
    while (aside := folder.with_name(f"{folder.name}.old-{k}")).exists():
        k += 1
    aside.mkdir()
    for path in found:
        path.rename(aside / path.name)
    return aside
