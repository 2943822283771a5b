"""Files that record the origin of a run.

config.yaml      the settings
run_info.json    a list with one entry per start: versions, revision of the code, command, device
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TypedDict

from simscaleai.json_types import JsonDict
from simscaleai.storage.atomic import atomic_path

CONFIG_FILE = "config.yaml"
INFO_FILE = "run_info.json"
# {library: package}; the package `mujoco` adds only a viewer to the engine, and need not be installed
LIBRARIES = {"mujoco": "mujoco-core"} | {
    name: name for name in ("torch", "numpy", "gymnasium", "h5py", "omegaconf")
}
_GIT_SECONDS = 10  # a network file system may hang


class GitState(TypedDict):
    """State of a git work tree."""

    revision: str
    dirty: bool  # whether a tracked file was changed


def write_run_info(
    folder: Path,
    config: str,
    start_step: int,
    device: str,
    processes: int = 1,
    facts: JsonDict | None = None,
) -> None:
    """Write both files; earlier starts of the same run keep their entries in `run_info.json`.

    Args:
      folder: the run folder, which is created.
      config: the settings as YAML.
      start_step: the step after which the run resumes; 0 removes the entries of earlier starts.
      device: device of the training.
      processes: number of processes.
      facts: further entries of `run_info.json` for this start, plain values.
    """
    starts = _earlier_starts(folder / INFO_FILE) if start_step else []
    starts.append(
        {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "start_step": start_step,
            "command": sys.argv,
            "device": device,
            "processes": processes,
            "git": git_state(),
            "versions": versions(),
            **(facts or {}),
        }
    )
    # This file first: if the run is killed in between, the folder is still recognized as a run's.
    _write(folder / INFO_FILE, json.dumps(starts, indent=2) + "\n")
    _write(folder / CONFIG_FILE, config)


def versions() -> dict[str, str]:
    """Return {library: version}, including Python and the operating system."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name, package in {"simscaleai": "simscaleai", **LIBRARIES}.items():
        try:
            found[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_state(folder: Path | None = None) -> GitState | None:
    """Return the state of the work tree that contains `folder` (by default, the working directory).

    None if it lies in no work tree. Untracked files do not make a work tree dirty.
    """
    try:
        revision = _git(folder, "rev-parse", "HEAD").strip()
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):  # no git, no work tree, or it takes too long
        return None
    return {"revision": revision, "dirty": bool(changes)}


def _git(folder: Path | None, *words: str) -> str:
    done = subprocess.run(
        ["git", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=_GIT_SECONDS,
    )
    return done.stdout


def _earlier_starts(path: Path) -> list[object]:
    try:
        starts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a damaged record must not prevent resuming
        return []
    return starts if isinstance(starts, list) else []


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
