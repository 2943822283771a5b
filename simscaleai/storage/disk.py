"""Files that cannot be written: one error for it, whatever library ran into it.

    with told("runs/a/metrics.jsonl"):
        file.write(line)            # raises CannotWriteError when the disk is full

HDF5, torch, NumPy and ffmpeg each have their own words for a disk that takes no more, if they have any. So an
error while a file is being written is looked through for the system's own reason, and if it has none, the
disk is asked.
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
    """The disk does not take what should be written."""

    def and_so(self, sentence: str) -> CannotWriteError:
        """The same error with a further sentence, such as what is kept."""
        return CannotWriteError(f"{self} {sentence}")


def cannot_write(
    error: BaseException, path: str | Path, at: Path | None = None
) -> CannotWriteError | None:
    """The error for a disk that does not take more, if `error` comes from that; else None.

    Args:
      error: what was raised while something was written.
      path: what to call the file.
      at: the file that was being written, to ask the disk by if `error` does not say.
    """
    number = _reason(error)
    if number is None and at is not None and isinstance(error, Exception):
        number = _probe(at)
    if number is None:
        return None
    remedy = _REMEDIES.get(number, "write elsewhere")
    return CannotWriteError(f"Cannot write {path}: {REASONS[number]}; {remedy}.")


@contextmanager
def told(path: str | Path) -> Iterator[None]:
    """Raise CannotWriteError where the block fails since the disk does not take what it writes."""
    try:
        yield
    except Exception as error:
        found = None if isinstance(error, UserError) else cannot_write(error, path, Path(path))
        if found is None:
            raise
        raise found from error


def _reason(error: BaseException) -> int | None:
    """The number of one of `REASONS` in an error, or in one that led to it."""
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or one in seen:
            continue
        seen.append(one)
        number = getattr(one, "errno", None)
        if number is None and (found := _HDF5.search(str(one))):
            number = int(found[1])
        if number in REASONS:
            return int(number)
        todo += [one.__context__, one.__cause__]
    return None


def _probe(path: Path) -> int | None:
    """Why no more can be written to `path`, if so; what is written here is cut off again."""
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
