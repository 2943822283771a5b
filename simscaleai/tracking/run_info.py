"""Where a run came from, in its folder.

config.yaml      its settings
run_info.json    a list with one entry for each start: versions, revision of the code, command, device
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from simscaleai.storage.atomic import atomic_path

CONFIG_FILE = "config.yaml"
INFO_FILE = "run_info.json"
LIBRARIES = ("mujoco", "torch", "numpy", "gymnasium", "h5py", "omegaconf")
_GIT_SECONDS = 10


def write_run_info(
    folder: Path,
    config: str,
    start_step: int,
    device: str,
    processes: int = 1,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write both files; earlier starts of the same run keep their entries in `run_info.json`.

    Args:
      folder: of the run; created.
      config: its settings as YAML.
      start_step: the step after which the run resumes; 0 forgets earlier starts.
      device: what it runs on.
      processes: how many train together.
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
    # First: a run that is killed between the two must know the folder again as a run's.
    _write(folder / INFO_FILE, json.dumps(starts, indent=2) + "\n")
    _write(folder / CONFIG_FILE, config)


def versions() -> dict[str, str]:
    """{library: version}, with Python and the operating system."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in ("simscaleai", *LIBRARIES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_state(folder: Path | None = None) -> dict[str, Any] | None:
    """{"revision", "dirty"} of the work tree around a folder (by default this one); None outside of one.

    It is dirty if a file that git knows was changed; files that git does not know do not count.
    """
    try:
        revision = _git(folder, "rev-parse", "HEAD").strip()
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
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


def _earlier_starts(path: Path) -> list[Any]:
    try:
        starts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return starts if isinstance(starts, list) else []


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
