"""The folder of a run: whose it is, and what to do with the files of an earlier one."""

from __future__ import annotations

from pathlib import Path

from simscaleai.training.report import METRICS_FILE

PATTERNS = ("step_*.pt", "final.pt", METRICS_FILE)


def make_room(folder: Path) -> Path | None:
    """Move an earlier run's files out of `folder` into a new one beside it.

    Returns:
      the new folder, `<folder>.old-<k>` with the first free k; None if there was nothing to move.
    """
    files = sorted(path for pattern in PATTERNS for path in folder.glob(pattern))
    if not files:
        return None
    k = 1
    while (aside := folder.with_name(f"{folder.name}.old-{k}")).exists():
        k += 1
    aside.mkdir()
    for path in files:
        path.rename(aside / path.name)
    return aside
