"""Files and folders that appear whole or not at all.

    with atomic_path("runs/final.pt") as temporary:
        write_everything_to(temporary)

The temporary file lies in the folder of the final one, so that the last step is a rename on one file
system. What was at the final path stays readable until that rename, and after it only the new file
is. A process killed in between leaves a file named `.<name>.<host>-<process>-<random>.tmp`, which goes
away when the next file is written in its folder.
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
    """Yield a path to write to; it becomes `final` if the block ends well, else it is removed.

    The folder of `final` is created. A file already at `final` is replaced: whoever must not replace
    one asks before. The data is on disk (fsync of file and folder) when the block has ended.

    Raises:
      CannotWriteError: the disk is full or the like; from within the block too, whatever library found it.
    """
    final = Path(final)
    temporary = temporary_for(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        clean(final.parent)
        yield temporary
        sync(temporary)
        os.replace(temporary, final)
        sync(final.parent)
    except BaseException as error:
        mistake = isinstance(error, UserError)
        full = None if mistake else cannot_write(error, final, temporary)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if full is None:
            raise
        raise full from error


def require_writable(final: str | Path, remedy: str = "choose another place") -> None:
    """Raise UserError if no file can be written at `final`: ask before the work whose result it will hold.

    Nothing is left there, no folder either.
    """
    final = Path(final)
    if final.is_dir():
        raise UserError(f"{final} is a folder; give the path of a file.")
    folder = final.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    temporary = temporary_for(folder / final.name)
    try:
        temporary.touch(exist_ok=False)
        temporary.unlink()
    except OSError as error:
        raise UserError(
            f"{final} cannot be written ({folder}: {error.strerror}); {remedy}."
        ) from None


def replace_folder(temporary: Path, final: Path) -> None:
    """Give a finished folder, whose larger files are synced already, the name that it is to have.

    A folder that has this name goes away. In between there is none, for a moment: a file is replaced at
    once, a folder cannot be.
    """
    for path in temporary.iterdir():
        sync(path)
    sync(temporary)
    if final.exists():
        remove_folder(final)
    os.rename(temporary, final)
    sync(final.parent)


def remove_folder(path: Path) -> None:
    """Delete a folder; whoever looks sees all of it or none."""
    aside = temporary_for(path)
    os.rename(path, aside)
    shutil.rmtree(aside)


def temporary_for(final: Path) -> Path:
    """A new name beside `final`, which says who is writing."""
    host = zlib.crc32(socket.gethostname().encode())
    token = f"{host:08x}-{os.getpid()}-{secrets.token_hex(4)}"
    return final.with_name(f".{final.name}.{token}{SUFFIX}")


def clean(folder: Path) -> None:
    """Delete temporary files and folders in `folder`, if there is one, of processes here that are gone."""
    with suppress(OSError):  # no folder, one that cannot be read, or others delete the same
        names = [p for p in folder.iterdir() if p.name.endswith(SUFFIX)]
        for path in [p for p in names if _is_leftover(p.name)]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _is_leftover(name: str) -> bool:
    """Whether it is a temporary file's name, of a process of this machine that is gone."""
    found = _TEMPORARY.search(name)
    if os.name != "posix" or found is None:
        return False
    if int(found["host"], 16) != zlib.crc32(socket.gethostname().encode()):
        return False
    try:
        os.kill(int(found["process"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False


def leftovers(final: str | Path) -> list[Path]:
    """Temporary files of `final` that killed processes left, or that another one is writing now."""
    final = Path(final)
    start = f".{final.name}."
    if not final.parent.is_dir():
        return []
    names = (p.name for p in final.parent.iterdir())
    found = [n for n in names if n.startswith(start) and n.endswith(SUFFIX)]
    return [final.parent / n for n in sorted(found)]


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on disk before going on."""
    if os.name != "posix" and path.is_dir():  # a folder cannot be opened there
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
