"""The folder of a comparison: `comparison.json`, `episodes.csv`, and videos if there are any.

    runs/compare/old_new/comparison.json      verdicts and their numbers, every episode
    runs/compare/old_new/episodes.csv         one line for each episode, the policies side by side
    runs/compare/old_new/videos/new/episode_17.mp4

The same comparison made again replaces its files. Another one never does: it gets a folder of its own, or is
refused where the folder was named.
"""

from __future__ import annotations

import csv
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
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.storage.atomic import atomic_path, require_writable
from simscaleai.storage.find_checkpoint import RUNS

REPORT = "comparison.json"
EPISODES = "episodes.csv"
# parts of a path that say nothing about which policy it is
_COMMON = {"runs", "checkpoints", "final"}
_COLUMNS = ("success", "stage", "reward", "length")


class CompareFiles:
    """The files of one comparison.

    Args:
      folder: where they go; None for one of `runs/compare`.
      policies: names in full, the baseline first.
      identity: what the comparison depends on, as plain values.

    Attributes:
      folder: as given or found.
      names: short ones of the policies, each once.

    Raises:
      UserError: the folder cannot be written, or holds another comparison.
    """

    def __init__(
        self, folder: str | Path | None, policies: Sequence[str], identity: Metrics
    ) -> None:
        self.names = short_names(policies)
        self._identity = json.loads(json.dumps(plain(identity)))
        self._policies: list[Metrics] = identity["policies"]
        if folder is None:
            self.folder = self._free_folder(RUNS / "compare" / "_".join(self.names))
        else:
            self.folder = Path(folder)
            if not self._is_free(self.folder):
                raise UserError(
                    f"{self.folder} holds another comparison; choose another folder with --output."
                )
        require_writable(self.folder / REPORT, "choose another folder with --output")

    def log_path(self, k: int) -> Path:
        """Return the file of the finished episodes of policy k, while the comparison runs."""
        return self.folder / f"{k}_{self.names[k]}{SUFFIX}"

    def write(
        self, report: Mapping[str, object], episodes: Mapping[str, list[EpisodeResult]]
    ) -> None:
        """Write the report and the table of episodes."""
        with atomic_path(self.folder / EPISODES) as temporary:
            self._write_episodes(temporary, episodes)
        values = without_nan({"identity": self._identity, **report})
        with atomic_path(self.folder / REPORT) as temporary:
            text = json.dumps(values, indent=2, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")

    def _write_episodes(self, path: Path, episodes: Mapping[str, list[EpisodeResult]]) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            names = [f"{name}_{column}" for name in episodes for column in _COLUMNS]
            writer.writerow(["index", "seed", "instruction", *names])
            # a candidate with an early verdict has fewer episodes
            for same in itertools.zip_longest(*episodes.values()):
                known = next(episode for episode in same if episode is not None)
                values = [
                    getattr(episode, column) if episode is not None else ""
                    for episode in same
                    for column in _COLUMNS
                ]
                writer.writerow([known.index, known.seed, known.instruction, *values])

    def _free_folder(self, wanted: Path) -> Path:
        for k in itertools.count(1):
            folder = wanted if k == 1 else wanted.with_name(f"{wanted.name}_{k}")
            if self._is_free(folder):
                return folder
        raise AssertionError

    def _is_free(self, folder: Path) -> bool:
        """Return whether a folder holds no comparison, finished or begun, or this one."""
        report = folder / REPORT
        if report.exists():
            try:
                found = json.loads(report.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError):
                return False  # not ours to replace
            return isinstance(found, dict) and found.get("identity") == self._identity
        logs = folder.glob(f"*{SUFFIX}") if folder.is_dir() else ()
        return all(any(is_of(log, policy) for policy in self._policies) for log in logs)


def short_names(policies: Sequence[str]) -> list[str]:
    """Return names of policies for files and columns: the parts of their paths that tell them apart."""
    names = []
    for policy in policies:
        parts = [part for part in Path(policy).with_suffix("").parts if part not in _COMMON]
        kept = "_".join(parts[-2:]) or "policy"
        names.append(re.sub(r"[^A-Za-z0-9.-]+", "-", kept).strip("-")[:60])
    counts, seen = Counter(names), Counter[str]()
    for k, name in enumerate(names):
        if counts[name] > 1:  # the same policy twice, or the same name in two places
            seen[name] += 1
            names[k] = f"{name}-{seen[name]}"
    return names
