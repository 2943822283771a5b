"""Check a dataset: report all problems at once, and hash its content.

    report = validate_dataset("data/reach.h5")
    if not report.ok:
        print("\\n".join(report.errors))

Errors are what breaks training or cannot be right: missing or misshapen arrays, NaN, actions out of
bounds, time that runs back, content that differs from the checksum stored when it was written. Warnings
are what deserves a look: a dimension that never changes, the same episode twice, a state that jumps. Findings
are the questions of `dataset_doctor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simscaleai.datagen.dataset_checks import DatasetChecks
from simscaleai.datagen.dataset_hash import hash_of_checksums
from simscaleai.datagen.episode_checks import EpisodeChecks
from simscaleai.datagen.finding import Finding
from simscaleai.datagen.problems import Problems, sentences
from simscaleai.errors import UserError
from simscaleai.storage.episodes import EpisodeSource, open_dataset


@dataclass
class Report:
    """What `validate_dataset` found.

    Attributes:
      path: the file.
      episodes, steps: how much was read.
      successes, unknown_successes: episodes marked as successful, and those that do not say.
      content_hash: of what was read; "" if something could not be read.
      errors, warnings: one sentence each; `ok` is that there are no errors.
      findings: what the doctor asks about a sound dataset; see `dataset_doctor`.
    """

    path: str
    episodes: int = 0
    steps: int = 0
    successes: int = 0
    unknown_successes: int = 0
    content_hash: str = ""
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.errors


def validate_dataset(path: str | Path) -> Report:
    """Read a whole dataset, a file or a folder of shards, and report everything that is wrong with it.

    Raises:
      UserError: the file is missing, no dataset at all, or refused for safety.
    """
    with open_dataset(path, use_index=False) as data:
        return _validate(data)


def _validate(data: EpisodeSource) -> Report:
    """Check the episodes, then the whole that they make."""
    problems = Problems()
    episodes = EpisodeChecks(data, problems)
    checksums: dict[int, str] = {}
    for i, episode in enumerate(data.episodes):
        try:
            checksums[i] = episodes.check(i, episode.name)
        except UserError as error:  # an episode that cannot be read; the others still can
            problems.error(str(error), episode.name)
    DatasetChecks(episodes).run(checksums)
    complete = len(checksums) == len(data)
    digests = [*checksums.values()]
    found = hash_of_checksums(data, digests) if complete and not problems.errors else ""
    stored = data.attribute("content_hash")
    # earlier versions hashed the path of the scene too
    if found and stored not in (None, found, hash_of_checksums(data, digests, with_path=True)):
        _report_changes(data, digests, problems)
    return Report(
        path=str(data.path),
        episodes=len(data),
        steps=sum(e.length for e in data.episodes),
        successes=sum(bool(e.success) for e in data.episodes),
        unknown_successes=sum(e.success is None for e in data.episodes),
        content_hash=found,
        errors=sentences(problems.errors),
        warnings=sentences(problems.warnings),
        # of a damaged dataset, the errors come first
        findings=[] if problems.errors else episodes.doctor.findings(),
    )


def _report_changes(data: EpisodeSource, checksums: Sequence[str], problems: Problems) -> None:
    """Report changes since the file was hashed.

    A new split is a warning, changed attributes are an error.
    """
    stored = data.attribute("episodes_hash")
    if stored is not None and stored == hash_of_checksums(data, checksums, {}):
        problems.warning("the split is not the one that the file was written with")
    else:
        problems.error("the content hash differs from the one stored: attributes were changed")
