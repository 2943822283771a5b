"""A folder that appears complete or not at all.

with atomic_folder("data/lerobot", marker="meta/info.json") as temporary:
    write_everything_into(temporary)
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simscaleai.errors import ExistingFileError, UserError
from simscaleai.storage.atomic import clean, replace_folder, sync, temporary_for
from simscaleai.storage.disk import cannot_write


@contextmanager
def atomic_folder(final: str | Path, *, marker: str, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder to write into; it is renamed to `final` if the block succeeds, else removed.

    Args:
      final: path of the folder; its parent is created.
      marker: a file that a folder of this kind has; an existing folder without it is never replaced.
      overwrite: replace an existing folder of this kind, or an empty one.

    Raises:
      ExistingFileError: `final` exists, and it must not be replaced.
      CannotWriteError: the disk is full or the like.
    """
    final = Path(final)
    check_free(final, marker, overwrite)
    temporary = temporary_for(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        clean(final.parent)
        temporary.mkdir()
        yield temporary
        # before the rename: a power failure must not leave the new name with old blocks
        for path in sorted(temporary.rglob("*")):
            sync(path)
        replace_folder(temporary, final)
    except BaseException as error:  # also Ctrl-C: nothing may be left behind
        full = None if isinstance(error, UserError) else cannot_write(error, final)
        shutil.rmtree(temporary, ignore_errors=True)
        if full is None:
            raise
        raise full from error


def check_free(final: Path, marker: str, overwrite: bool) -> None:
    """Raise ExistingFileError if `final` must not be replaced; see `atomic_folder`."""
    if not final.exists():
        return
    if not final.is_dir():
        raise ExistingFileError(f"{final} is a file; give the path of a folder.")
    if not any(final.iterdir()):
        return
    if not overwrite:
        raise ExistingFileError(
            f"{final} exists; choose another output or replace it with --overwrite."
        )
    if not (final / marker).exists():
        raise ExistingFileError(
            f"{final} holds other files (no {marker}), and is not replaced; choose another output."
        )
