"""A folder that one process at a time may write to.

    lock = FolderLock(Path("runs/a"), "training in")
    lock.take()        # UserError if another process is at work there
    ...
    lock.release()

The operating system holds the lock (`flock`) and releases it when the process ends for any reason, so the
file of a killed process blocks nobody. On systems without such locks (Windows, some network file systems),
nothing is locked.
"""

from __future__ import annotations

import os
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import IO

from simscaleai.errors import UserError

_HANDOVER_SECONDS = 0.5  # wait for a holder that is about to end

_held: weakref.WeakSet[FolderLock] = weakref.WeakSet()


class FolderLock:
    """See the module docstring.

    Args:
      folder: the folder to lock; created when the lock is taken.
      doing: what a holder does, for the error "Another process is <doing> <name>".
      name: name of the folder in the error; by default its path.
      file: name of the locked file, which is in the folder while the lock is held.
    """

    def __init__(
        self, folder: Path, doing: str, name: str | None = None, file: str = ".simscale.lock"
    ) -> None:
        self.folder, self.path = folder, folder / file
        self._doing, self._name = doing, name or str(folder)
        self._file: IO[str] | None = None
        self._made: list[Path] = []  # folders that did not exist before, the innermost first

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._file is not None

    def take(self) -> None:
        """Take the lock, unless this object holds it already.

        Raises:
          UserError: another process, or another lock object of this one, holds it.
        """
        if self.held:
            return
        self._made = [p for p in (self.folder, *self.folder.parents) if not p.exists()]
        stop = time.monotonic() + _HANDOVER_SECONDS
        while not self._try():
            if time.monotonic() > stop:
                raise UserError(
                    f"Another process is {self._doing} {self._name}{_holder(self.path)}; wait until it ends"
                    " or choose another place."
                )
            time.sleep(0.05)

    def release(self) -> None:
        """Release the lock, and remove its file and the empty folders that were created for it.

        Does nothing if the lock is not held.
        """
        if self._file is None:
            return
        if os.name != "posix":  # Windows cannot remove an open file
            self._drop()
        # removed while still locked: a process that has it open notices (`_is_at`) and tries again
        self.path.unlink(missing_ok=True)
        self._drop()
        with suppress(OSError):  # the run has written files
            for folder in self._made:
                folder.rmdir()

    def _try(self) -> bool:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            file = os.fdopen(os.open(self.path, flags, 0o644), "r+", encoding="utf-8")
        except FileNotFoundError:  # another process has just removed the folder
            return False
        if not _lock(file) or not _is_at(file, self.path):
            file.close()
            return False
        with suppress(OSError):  # on a full disk the lock works without the process id
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"{os.getpid()}\n".encode())
        self._file = file
        _held.add(self)
        return True

    def _drop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        _held.discard(self)


def _lock(file: IO[str]) -> bool:
    """Lock an open file; return False if another process holds it."""
    try:
        import fcntl
    except ImportError:  # Windows: the user must not start two runs in one folder
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _is_at(file: IO[str], path: Path) -> bool:
    """Return whether an open file is still the one at `path`; a previous holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    """Return the holder of a lock as " (process 12345)"; "" if its file does not name it."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return f" (process {text})" if text.isdecimal() and len(text) < 20 else ""


def _forget() -> None:
    """Drop all locks in a forked child: they belong to the parent and must not outlive it."""
    for lock in list(_held):
        lock._drop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
