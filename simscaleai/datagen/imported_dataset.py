"""A LeRobot folder as training reads it: imported once, into the user's cache folder.

    path = imported_dataset("data/pick_lerobot")       # ~/.cache/simscale/lerobot/pick_lerobot-3f0c....h5

The file is named after the folder's files, their sizes and times of change: a folder that has changed is
imported again. Files in the cache may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from simscaleai.datagen.exchange import import_dataset
from simscaleai.errors import ExistingFileError
from simscaleai.storage.disk import name_disk_errors

CACHE = "XDG_CACHE_HOME"
_POLL_SECONDS = 0.5


def imported_dataset(
    folder: str | Path, *, imports: bool = True, show_progress: bool = True
) -> tuple[Path, bool]:
    """Return the file that a LeRobot folder is imported to, and whether it was imported now.

    Args:
      folder: with `meta/info.json`.
      imports: whether to import the folder; False waits until another process of this machine has done it.
      show_progress: draw a progress bar on stderr, if that is a terminal.

    Raises:
      UserError: the folder is no LeRobot dataset of version 3, damaged or refused, or the cache cannot be
        written.
    """
    path = _place(Path(folder))
    if not imports:
        while not path.exists():  # torchrun ends this process if the other one fails
            time.sleep(_POLL_SECONDS)
    if path.exists():
        return path, False
    try:
        with name_disk_errors(path):
            import_dataset(folder, path, show_progress=show_progress)
    except ExistingFileError:  # another training has been faster
        return path, False
    return path, True


def _place(folder: Path) -> Path:
    """Return where a folder is imported to."""
    digest = hashlib.sha256(str(folder.resolve()).encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            about = path.stat()
            line = f"{path.relative_to(folder)} {about.st_size} {about.st_mtime_ns}\n"
            digest.update(line.encode())
    root = Path(os.environ.get(CACHE) or Path.home() / ".cache")
    name = f"{folder.resolve().name}-{digest.hexdigest()[:16]}.h5"
    return root / "simscale" / "lerobot" / name
