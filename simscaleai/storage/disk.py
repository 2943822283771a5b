"""Files that cannot be written: one error for them, whatever library failed.

    with name_disk_errors("runs/a/metrics.jsonl"):
        file.write(line)            # raises CannotWriteError when the disk is full

HDF5, torch, NumPy and ffmpeg report a full disk each in their own way, or not at all. So an error raised
while a file is written is searched for an `errno`, and without one a small write to the disk is tried.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simscaleai.errors import UserError

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
_PROBE_BYTES = 2**20
_HDF5 = re.compile(r"errno = (\d+)")


class CannotWriteError(UserError, OSError):
    """The disk is full, read-only or the like."""

    def with_sentence(self, sentence: str) -> CannotWriteError:
        """Return the same error with one more sentence, such as what was saved."""
        return CannotWriteError(f"{self} {sentence}")


def cannot_write(
    error: BaseException, path: str | Path, at: Path | None = None
) -> CannotWriteError | None:
    """Return a CannotWriteError if a full disk or the like caused `error`; else None.

    Args:
      error: what was raised while something was written.
      path: name of the file in the message.
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
        found = None if isinstance(error, UserError) else cannot_write(error, path, Path(path))
        if found is None:
            raise
        raise found from error


def _reason(error: BaseException) -> int | None:
    """Return an `errno` of `REASONS` from an error or its causes; None if there is none."""
    visited: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or one in visited:
            continue
        visited.append(one)
        number = getattr(one, "errno", None)
        if number is None and (found := _HDF5.search(str(one))):
            number = int(found[1])
        if number in REASONS:
            return int(number)
        todo += [one.__context__, one.__cause__]
    return None


def _probe(path: Path) -> int | None:
    """Return the `errno` of a trial write to `path`, None if it succeeds; the file is truncated back."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND)
    except OSError as error:
        return error.errno if error.errno in REASONS else None
    size = os.fstat(handle).st_size
    try:
        left = _PROBE_BYTES
        while left:
            left -= os.write(handle, bytes(left))
        os.fsync(handle)
    except OSError as error:
        return error.errno if error.errno in REASONS else None
    finally:
        os.ftruncate(handle, size)
        os.close(handle)
    return None
