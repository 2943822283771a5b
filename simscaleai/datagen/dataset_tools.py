"""Merge, filter, split and edit datasets; each writes a new file and never changes its input.

    filter_dataset("data/all.h5", "data/good.h5", success=True, max_length=100)
    merge_datasets(["data/a.h5", "data/b.h5"], "data/both.h5")

Inputs are files or folders of shards; the output is one file.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from simscaleai.contract import EnvContract
from simscaleai.convert import converted
from simscaleai.datagen.rewriting import Choice, Rewrite, check_output
from simscaleai.datagen.subtasks import SubtaskFinder
from simscaleai.errors import UserError, unknown_name
from simscaleai.json_types import JsonDict
from simscaleai.storage.episode import Episode, split_episodes
from simscaleai.storage.episodes import EpisodeSource, open_dataset

_V = TypeVar("_V")

SPLIT_BY = ("episode", "instruction")


@converted
def merge_datasets(
    datasets: Sequence[str | Path],
    output_path: str | Path,
    *,
    overwrite: bool = False,
    show_progress: bool = True,
) -> JsonDict:
    """Write the episodes of several datasets of one environment to one file.

    An episode that equals one before it is left out. Splits are those of the sources.

    Returns:
      {"total_episodes", "total_steps", "mean_episode_length", "mean_reward", "success_rate",
      "train_episodes", "valid_episodes", "output_path", "file_size_mb", "content_hash"}, as all tools of this
      module, and "copies", how many episodes were left out.

    Raises:
      ExistingFileError: the output is there.
      UserError: the environments differ, with every difference, or a dataset cannot be read.
    """
    output = Path(output_path)
    check_output(output, datasets, overwrite=overwrite)
    if len(datasets) < 2:
        raise UserError("Merging takes two datasets or more; name another one.")
    with ExitStack() as stack:
        sources = [stack.enter_context(open_dataset(path)) for path in datasets]
        for other in sources[1:]:
            _require_same(sources[0], other)
        checksums: set[str] = set()
        choices, copies = [], 0
        for data in sources:
            chosen = []
            for i in data.split("all"):
                checksum = data.episode_attribute(i, "checksum") or data.checksum(i)
                if checksum in checksums:
                    copies += 1
                else:
                    chosen.append(i)
                checksums.add(checksum)
            choices.append(Choice(data, chosen))
        recipe = {"merged_from": [_source(data) for data in sources]}
        result = Rewrite(choices, recipe).run(output, show_progress=show_progress)
    return result | {"copies": copies}


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
    overwrite: bool = False,
    show_progress: bool = True,
) -> JsonDict:
    """Write the episodes that meet all conditions, see `Conditions`; with `invert`, all others.

    Returns:
      as `merge_datasets`, without "copies".

    Raises:
      ExistingFileError: the output is there.
      UserError: no episode is chosen, or a condition names what there is not.
    """
    output = Path(output_path)
    check_output(output, [dataset], overwrite=overwrite)
    conditions = Conditions(success, min_length, max_length, instruction, stage, seeds, split)
    with open_dataset(dataset) as data:
        chosen = conditions.choose(data)
        if invert:
            chosen = sorted({*data.split("all")} - {*chosen})
        given = {k: v for k, v in vars(conditions).items() if v is not None}
        recipe = {"filtered_from": _source(data), "conditions": given, "invert": invert}
        rewrite = Rewrite([Choice(data, chosen)], recipe)
        return rewrite.run(output, show_progress=show_progress)


@converted
def split_dataset(
    dataset: str | Path,
    output_path: str | Path,
    *,
    valid_fraction: float = 0.1,
    seed: int = 0,
    by: str = "episode",
    overwrite: bool = False,
    show_progress: bool = True,
) -> JsonDict:
    """Write a dataset with another split into training and validation; other masks stay.

    Args:
      dataset: the dataset.
      output_path: the file to write.
      valid_fraction: of the episodes, or of the instructions, for validation.
      seed: decides which.
      by: "episode", or "instruction" to hold whole instructions out.
      overwrite, show_progress: as in `merge_datasets`.

    Returns:
      as `merge_datasets`, without "copies".
    """
    if by not in SPLIT_BY:
        raise unknown_name("way to split", by, SPLIT_BY)
    if not 0 <= valid_fraction < 1:
        raise UserError(f"valid_fraction is {valid_fraction}; expected at least 0 and less than 1.")
    output = Path(output_path)
    check_output(output, [dataset], overwrite=overwrite)
    with open_dataset(dataset) as data:
        everything = data.split("all")
        # units are episodes, or the instructions, each with its episodes
        units = {i: [i] for i in everything} if by == "episode" else _by_instruction(data)
        members = list(units.values())
        if by == "instruction" and len(members) < 2:
            raise UserError(f"{data.path} has one instruction only; split it by episode.")
        position = {i: k for k, i in enumerate(everything)}
        found = {
            name: sorted(position[i] for unit in chosen for i in members[unit])
            for name, chosen in split_episodes(len(members), seed, valid_fraction).items()
        }
        others = {
            name: [position[i] for i in mask if i in position]
            for name, mask in data.splits().items()
        }
        recipe = {"split_from": _source(data), "by": by, "seed": seed, "valid": valid_fraction}
        rewrite = Rewrite([Choice(data, everything)], recipe, splits={**others, **found})
        return rewrite.run(output, show_progress=show_progress)


@converted
def edit_dataset(
    dataset: str | Path,
    output_path: str | Path,
    *,
    instructions: Mapping[str, str] | None = None,
    drop_obs: Sequence[str] = (),
    overwrite: bool = False,
    show_progress: bool = True,
) -> JsonDict:
    """Write a dataset with other instructions, or with fewer observations.

    Args:
      dataset: the dataset.
      output_path: the file to write.
      instructions: {old: new}, whole sentences.
      drop_obs: observations to leave out, such as "images/wrist_cam".
      overwrite, show_progress: as in `merge_datasets`.

    Returns:
      as `merge_datasets`, without "copies".

    Raises:
      UserError: no episode has such an instruction or observation.
    """
    output = Path(output_path)
    check_output(output, [dataset], overwrite=overwrite)
    renamed, dropped = dict(instructions or {}), list(drop_obs)
    if not renamed and not dropped:
        raise UserError("There is nothing to edit; give instructions or observations.")
    with open_dataset(dataset) as data:
        sentences = {episode.language for episode in data.episodes}
        for old in renamed:
            if old not in sentences:
                raise unknown_name(f"instruction of {data.path}:", old, sentences)
        for key in dropped:
            if key not in data.obs_keys:
                raise unknown_name(f"observation of {data.path}:", key, data.obs_keys)
        if set(dropped) >= set(data.obs_keys):
            raise UserError("A dataset without observations is of no use; keep at least one.")

        def change(episode: Episode) -> Episode:
            return replace(
                episode,
                language=renamed.get(episode.language, episode.language),
                obs=_without(episode.obs, dropped),
                next_obs=_without(episode.next_obs, dropped),
            )

        contract = data.contract
        if contract is not None:
            contract = _edited(contract, renamed, dropped)
        recipe = {"edited_from": _source(data), "instructions": renamed, "drop_obs": dropped}
        choices = [Choice(data, data.split("all"))]
        rewrite = Rewrite(choices, recipe, contract=contract, change=change)
        return rewrite.run(output, show_progress=show_progress)


def _edited(
    contract: EnvContract, renamed: Mapping[str, str], dropped: Iterable[str]
) -> EnvContract:
    """Return the contract of an edited dataset."""
    return replace(
        contract,
        obs_shapes=_without(contract.obs_shapes, dropped),
        obs_dtypes=_without(contract.obs_dtypes, dropped),
        instructions={
            goal: tuple(dict.fromkeys(renamed.get(sentence, sentence) for sentence in sentences))
            for goal, sentences in contract.instructions.items()
        },
    )


def _without(entries: Mapping[str, _V], dropped: Iterable[str]) -> dict[str, _V]:
    return {key: value for key, value in entries.items() if key not in set(dropped)}


def _by_instruction(data: EpisodeSource) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i in data.split("all"):
        found.setdefault(data.episodes[i].language, []).append(i)
    return dict(sorted(found.items()))


def _require_same(first: EpisodeSource, other: EpisodeSource) -> None:
    """Raise UserError with every difference between the environments of two datasets."""
    a, b = first.contract, other.contract
    if a is None or b is None:
        found = [] if a is b else ["one of them does not say in which environment it was made"]
        found += _array_differences(first, other)
    else:
        found = a.differences(b)
        found += [f"observation {key!r} is new" for key in b.obs_shapes if key not in a.obs_shapes]
        if a.env_name != b.env_name:
            found.append(f"the environment is {b.env_name!r}, expected {a.env_name!r}")
        if a.instructions != b.instructions:
            found.append("the instructions that labels stand for differ")
    if found:
        raise UserError(f"{other.path} cannot be merged with {first.path}: {'; '.join(found)}.")


def _array_differences(first: EpisodeSource, other: EpisodeSource) -> list[str]:
    """Return what differs in the arrays of the first episodes, for data without a contract."""
    layouts = [
        {key: (data.shape(data.example, key)[1:], data.dtype(data.example, key)) for key in keys}
        for data, keys in ((data, data.keys(data.example)) for data in (first, other))
    ]
    differing = sorted(
        k for k in layouts[0].keys() | layouts[1].keys() if layouts[0].get(k) != layouts[1].get(k)
    )
    return [f"{key!r} differs" for key in differing]


def _source(data: EpisodeSource) -> str:
    """Return what identifies a dataset in the recipe of another."""
    return str(data.attribute("content_hash", ""))
