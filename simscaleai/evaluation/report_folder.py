"""The folder of a report: one JSON file, and what belongs to it.

    folder = ReportFolder(None, Path("runs/compare/old_new"), "comparison.json", identity)
    folder.write(report)

The same report made again replaces its files. Another one never does: it gets a folder of its own, or is
refused where the folder was named.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from simscaleai.convert import plain, without_nan
from simscaleai.errors import UserError
from simscaleai.evaluation.episode_log import SUFFIX, is_of
from simscaleai.evaluation.summary import Metrics
from simscaleai.storage.atomic import atomic_path, require_writable

# parts of a path that say nothing about which policy it is
_COMMON = {"runs", "checkpoints", "final"}


class ReportFolder:
    """See the module docstring.

    Args:
      folder: where the files go; None for `default`, or the first of its numbered siblings that is free.
      default: a folder.
      name: of the JSON file.
      identity: what the report depends on, as plain values.
      log_identities: of the logs that the report writes while it runs.

    Attributes:
      path: the folder.

    Raises:
      UserError: the folder cannot be written, or holds another report.
    """

    def __init__(
        self,
        folder: str | Path | None,
        default: Path,
        name: str,
        identity: Metrics,
        log_identities: Sequence[Metrics] = (),
    ) -> None:
        self._name, self._logs = name, log_identities
        self._identity = json.loads(json.dumps(plain(identity)))  # tuples become lists in the file
        self.path = self._first_free(default) if folder is None else Path(folder)
        if folder is not None and not self._is_free(self.path):
            raise UserError(f"{folder} holds another report; choose another folder with --output.")
        require_writable(self.path / name, "choose another folder with --output")

    def write(self, report: Mapping[str, object]) -> None:
        """Write the report, with its identity."""
        values = without_nan({"identity": self._identity, **report})
        with atomic_path(self.path / self._name) as temporary:
            text = json.dumps(values, indent=2, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")

    def _first_free(self, wanted: Path) -> Path:
        for k in itertools.count(1):
            folder = wanted if k == 1 else wanted.with_name(f"{wanted.name}_{k}")
            if self._is_free(folder):
                return folder
        raise AssertionError

    def _is_free(self, folder: Path) -> bool:
        """Return whether a folder holds no report, finished or begun, or this one."""
        report = folder / self._name
        if report.exists():
            try:
                found = json.loads(report.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError):
                return False  # not ours to replace
            return isinstance(found, dict) and found.get("identity") == self._identity
        logs = folder.glob(f"*{SUFFIX}") if folder.is_dir() else ()
        return all(any(is_of(log, identity) for identity in self._logs) for log in logs)


def short_names(policies: Sequence[str]) -> list[str]:
    """Return names of policies for files and columns: the parts of their paths that tell them apart."""
    names = []
    for policy in policies:
        parts = [part for part in Path(policy).with_suffix("").parts if part not in _COMMON]
        kept = "_".join(parts[-2:]) or "policy"
        names.append(re.sub(r"[^A-Za-z0-9.-]+", "-", kept).strip("-")[:60])
    counts, numbered = Counter(names), Counter[str]()
    for k, name in enumerate(names):
        if counts[name] > 1:  # the same policy twice, or the same name in two places
            numbered[name] += 1
            names[k] = f"{name}-{numbered[name]}"
    return names
