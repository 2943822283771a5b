"""One error for files that cannot be written, whatever library fails.

    with name_disk_errors("runs/a/metrics.jsonl"):
        file.write(line)            # raises CannotWriteError when the disk is full

HDF5, torch, NumPy and ffmpeg report a full disk in different ways, or not at all. Therefore an error during
writing is searched for an `errno`, and if there is none, a small trial write shows the state of the disk.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simscaleai.errors import UserError

# Errors of the disk; others, such as a missing permission, have messages of their own.
REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of disk space is used up",
    errno.EFBIG: "the file would be larger than is allowed here",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk reports an error of its own",
}
_REMEDIES = {
    errno.ENOSPC: "free some space or write elsewhere",
    errno.EDQUOT: "free some space or write elsewhere",
    errno.EFBIG: "raise the limit (ulimit -f) or write elsewhere",
}
_PROBE_BYTES = 2**20  # more than the rest of a block of any file system
_HDF5 = re.compile(r"errno = (\d+)")


class CannotWriteError(UserError, OSError):
    """The disk is full, read-only or the like."""

    def with_sentence(self, sentence: str) -> CannotWriteError:
        """Return this error with one more sentence, for example about the last checkpoint."""
        return CannotWriteError(f"{self} {sentence}")


def cannot_write(
    error: BaseException, path: str | Path, at: Path | None = None
) -> CannotWriteError | None:
    """Return a CannotWriteError if a full disk or the like caused `error`; else None.

    Args:
      error: the error raised during writing.
      path: path of the file, for the message.
      at: the file that was being written, for a trial write if `error` has no `errno`.
    """
    number = _reason(error)
    if number is None and at is not None and isinstance(error, Exception):
        number = _probe(at)
    if number is None:
        return None
    remedy = _REMEDIES.get(number, "write elsewhere")
    return CannotWriteError(f"Cannot write {path}: {REASONS[number]}; {remedy}.")


@contextmanager
def name_disk_errors(path: str | Path) -> Iterator[None]:
    """Raise CannotWriteError if the block fails because the disk is full or the like."""
    try:
        yield
    except Exception as error:
        # a UserError has its sentence already
        found = None if isinstance(error, UserError) else cannot_write(error, path, Path(path))
        if found is None:
            raise
        raise found from error


def _reason(error: BaseException) -> int | None:
    """Return an `errno` of `REASONS` from an error or its causes; None if there is none."""
    visited: list[BaseException] = []  # errors may cause one another in a circle
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or one in visited:
            continue
        visited.append(one)
        number = getattr(one, "errno", None)
        # h5py raises the errors of HDF5 as text
        if number is None and (found := _HDF5.search(str(one))):
            number = int(found[1])
        if number in REASONS:
            return int(number)
        todo += [one.__context__, one.__cause__]
    return None


def _probe(path: Path) -> int | None:
    """Return the `errno` of a trial write to the end of `path`, None if it succeeds; then truncate it."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND)
    except OSError as error:
        return error.errno if error.errno in REASONS else None
    size = os.fstat(handle).st_size
    try:
        left = _PROBE_BYTES
        while left:
            left -= os.write(handle, bytes(left))
        os.fsync(handle)  # network file systems report a quota only here
    except OSError as error:
        return error.errno if error.errno in REASONS else None
    finally:
        os.ftruncate(handle, size)
        os.close(handle)
    return None
