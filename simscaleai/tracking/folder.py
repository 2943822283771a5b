"""The folder of a run: whose it is, and what to do with the files of an earlier one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from simscaleai.tracking.log import METRICS_FILE
from simscaleai.tracking.run_info import CONFIG_FILE, INFO_FILE
from simscaleai.tracking.trackers import TENSORBOARD_FOLDER, WANDB_FILE, WANDB_FOLDER

# What this package writes there.
RECORDS = (METRICS_FILE, CONFIG_FILE, INFO_FILE, TENSORBOARD_FOLDER, WANDB_FILE, WANDB_FOLDER)


def make_room(folder: Path, patterns: Iterable[str]) -> Path | None:
    """Move an earlier run's records, and what else fits `patterns`, into a new folder beside this one.

    Returns:
      the new folder, `<folder>.old-<k>` with the first free k; None if there was nothing to move.
    """
    found = {path for pattern in (*RECORDS, *patterns) for path in folder.glob(pattern)}
    return move_aside(folder, sorted(found))


def move_aside(folder: Path, found: Sequence[Path]) -> Path | None:
    """Move files of `folder` as `make_room` does."""
    if not found:
        return None
    k = 1
    while (aside := folder.with_name(f"{folder.name}.old-{k}")).exists():
        k += 1
    aside.mkdir()
    for path in found:
        path.rename(aside / path.name)
    return aside
