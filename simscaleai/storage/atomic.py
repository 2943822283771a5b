"""Files and folders that appear complete or not at all.

    with atomic_path("runs/final.pt") as temporary:
        write_everything_to(temporary)

The temporary file is in the folder of the final one, because a rename is atomic only within a file system.
An old file stays readable until the rename. A killed process leaves a file
`.<name>.<host>-<process>-<random>.tmp`, which is deleted when the next file is written in its folder.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from simscaleai.errors import UserError
from simscaleai.storage.disk import cannot_write

SUFFIX = ".tmp"
_TEMPORARY = re.compile(r"^\..+\.(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}\.tmp$")


@contextmanager
def atomic_path(final: str | Path) -> Iterator[Path]:
    """Yield a path to write to; it is renamed to `final` if the block succeeds, else removed.

    The folder of `final` is created. An existing file is replaced, so callers that must not replace one check
    first. When the block has ended, the data are on disk (fsync of file and folder).

    Raises:
      CannotWriteError: the disk is full or the like, also if a library in the block reported it in its way.
    """
    final = Path(final)
    temporary = temporary_for(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        clean(final.parent)
        yield temporary
        sync(
            temporary
        )  # before the rename: a power failure must not leave the new name with old blocks
        os.replace(temporary, final)
        sync(final.parent)  # the rename itself
    except BaseException as error:  # also Ctrl-C: nothing may be left behind
        mistake = isinstance(error, UserError)
        full = None if mistake else cannot_write(error, final, temporary)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if full is None:
            raise
        raise full from error


def require_writable(final: str | Path, remedy: str = "choose another place") -> None:
    """Raise UserError if no file can be written at `final`; call it before a long computation.

    It leaves no file behind.
    """
    final = Path(final)
    if final.is_dir():
        raise UserError(f"{final} is a folder; give the path of a file.")
    folder = final.parent  # the nearest one that exists
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    temporary = temporary_for(folder / final.name)
    try:  # permissions alone say little about network and read-only file systems
        temporary.touch(exist_ok=False)
        temporary.unlink()
    except OSError as error:
        raise UserError(
            f"{final} cannot be written ({folder}: {error.strerror}); {remedy}."
        ) from None


def replace_folder(temporary: Path, final: Path) -> None:
    """Rename a finished folder to `final`, replacing an existing folder.

    The existing folder is removed first because, unlike a file, a folder cannot be replaced atomically.
    """
    for path in temporary.iterdir():
        sync(path)
    sync(temporary)
    if final.exists():
        remove_folder(final)
    os.rename(temporary, final)
    sync(final.parent)


def remove_folder(path: Path) -> None:
    """Delete a folder; other processes find all of it or nothing."""
    aside = temporary_for(path)
    os.rename(path, aside)
    shutil.rmtree(aside)


def temporary_for(final: Path) -> Path:
    """Return a new path beside `final`; its name contains host and process."""
    host = zlib.crc32(socket.gethostname().encode())
    token = f"{host:08x}-{os.getpid()}-{secrets.token_hex(4)}"
    return final.with_name(f".{final.name}.{token}{SUFFIX}")


def clean(folder: Path) -> None:
    """Delete the temporary files and folders in `folder` that ended processes of this machine left."""
    with suppress(OSError):  # no folder, not readable, or another process deletes the same
        names = [p for p in folder.iterdir() if p.name.endswith(SUFFIX)]
        for path in [p for p in names if _is_leftover(p.name)]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _is_leftover(name: str) -> bool:
    """Return whether this is the name of a temporary file of an ended process of this machine."""
    found = _TEMPORARY.search(name)
    if os.name != "posix" or found is None:
        return False
    if int(found["host"], 16) != zlib.crc32(socket.gethostname().encode()):
        return False
    try:
        os.kill(int(found["process"]), 0)  # signal 0 only checks that the process exists
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's process; a number too large for an id
        pass
    return False


def leftovers(final: str | Path) -> list[Path]:
    """Return the temporary files of `final`: left by killed processes, or being written."""
    final = Path(final)
    start = f".{final.name}."
    if not final.parent.is_dir():
        return []
    names = (p.name for p in final.parent.iterdir())
    found = [n for n in names if n.startswith(start) and n.endswith(SUFFIX)]
    return [final.parent / n for n in sorted(found)]


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk (fsync)."""
    if os.name != "posix" and path.is_dir():  # a folder cannot be opened there
        return
    # Windows flushes only files that are open for writing
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
