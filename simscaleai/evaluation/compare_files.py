"""The folder of a comparison: `comparison.json`, `episodes.csv`, and videos if there are any.

runs/compare/old_new/comparison.json      verdicts and their numbers, every episode
runs/compare/old_new/episodes.csv         one line for each episode, the policies side by side
runs/compare/old_new/videos/new/episode_17.mp4
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from simscaleai.evaluation.episode_log import SUFFIX
from simscaleai.evaluation.report_folder import ReportFolder, short_names
from simscaleai.evaluation.summary import Metrics
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.find_checkpoint import RUNS

REPORT = "comparison.json"
EPISODES = "episodes.csv"
_COLUMNS = ("success", "stage", "reward", "length")


class CompareFiles:
    """The files of one comparison.

    Args:
      folder: where they go; None for one of `runs/compare`.
      policies: names in full, the baseline first.
      identity: what the comparison depends on; "policies" has the identity of each.

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
        # named after its policies, so that a person finds it again
        default = RUNS / "compare" / "_".join(self.names)
        self._report = ReportFolder(folder, default, REPORT, identity, identity["policies"])
        self.folder = self._report.path

    def log_path(self, k: int) -> Path:
        """Return the file of the finished episodes of policy k, while the comparison runs."""
        return self.folder / f"{k}_{self.names[k]}{SUFFIX}"

    def write(
        self, report: Mapping[str, object], episodes: Mapping[str, list[EpisodeResult]]
    ) -> None:
        """Write the report and the table of episodes."""
        with atomic_path(self.folder / EPISODES) as temporary:
            self._write_episodes(temporary, episodes)
        self._report.write(report)

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
