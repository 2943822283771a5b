"""Choose the episodes of a dataset that meet conditions.

filter_dataset("data/all.h5", "data/good.h5", success=True, max_length=100)
"""

from __future__ import annotations

import fnmatch
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from simscaleai.convert import converted
from simscaleai.datagen.dataset_output import DatasetOutput
from simscaleai.datagen.rewriting import Choice, Rewrite, source_hash
from simscaleai.datagen.subtasks import SubtaskFinder
from simscaleai.errors import unknown_name
from simscaleai.json_types import JsonDict
from simscaleai.storage.episodes import EpisodeSource, open_dataset


@dataclass(frozen=True)
class Conditions:
    """Which episodes `filter_dataset` takes: those for which everything given is true.

    Attributes:
      success: only successful episodes, or only the others; those of unknown success are neither.
      min_length, max_length: steps.
      instruction: text with the wildcards * and ?, upper or lower case.
      stage: of the task, at which a failed episode ended, such as "missed_grasp".
      seeds: (first, last) of the reset.
      split: "train", "valid" or another mask.
    """

    success: bool | None = None
    min_length: int | None = None
    max_length: int | None = None
    instruction: str | None = None
    stage: str | None = None
    seeds: tuple[int, int] | None = None
    split: str | None = None

    def choose(self, data: EpisodeSource) -> list[int]:
        """Return the positions of the episodes that meet all conditions."""
        chosen = [i for i in data.split(self.split or "all") if self._fits(data, i)]
        if self.stage is None:
            return chosen
        # last, since it loads states into the simulation: only of episodes that fit otherwise
        with closing(SubtaskFinder(data)) as finder:
            if self.stage not in finder.stages:
                raise unknown_name("stage", self.stage, finder.stages)
            failed = [i for i in chosen if not data.episodes[i].success]
            return [i for i in failed if finder.stage(i) == self.stage]

    def _fits(self, data: EpisodeSource, i: int) -> bool:
        episode = data.episodes[i]
        pattern = self.instruction
        return (
            (self.success is None or episode.success is self.success)
            and (self.min_length is None or episode.length >= self.min_length)
            and (self.max_length is None or episode.length <= self.max_length)
            and (pattern is None or fnmatch.fnmatchcase(episode.language.lower(), pattern.lower()))
            and (
                self.seeds is None
                or (episode.seed is not None and self.seeds[0] <= episode.seed <= self.seeds[1])
            )
        )


@converted
def filter_dataset(
    dataset: str | Path,
    output_path: str | Path,
    *,
    success: bool | None = None,
    min_length: int | None = None,
    max_length: int | None = None,
    instruction: str | None = None,
    stage: str | None = None,
    seeds: tuple[int, int] | None = None,
    split: str | None = None,
    invert: bool = False,
    shard_episodes: int | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
) -> JsonDict:
    """Write the episodes that meet all conditions, see `Conditions`; with `invert`, all others.

    The output is a file, or a folder of shards with `shard_episodes`; see `merge_datasets`.

    Returns:
      as `merge_datasets`, without "copies".

    Raises:
      ExistingFileError: the output is there.
      UserError: no episode is chosen, or a condition names what there is not.
    """
    output = DatasetOutput(Path(output_path), shard_episodes, overwrite)
    output.check([dataset])
    conditions = Conditions(success, min_length, max_length, instruction, stage, seeds, split)
    with open_dataset(dataset) as data:
        chosen = conditions.choose(data)
        if invert:
            chosen = sorted({*data.split("all")} - {*chosen})
        given = {k: v for k, v in vars(conditions).items() if v is not None}
        recipe = {"filtered_from": source_hash(data), "conditions": given, "invert": invert}
        rewrite = Rewrite([Choice(data, chosen)], recipe)
        return rewrite.run(output, show_progress=show_progress)
