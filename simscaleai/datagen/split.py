"""Split a dataset into training and validation anew, by episode or by instruction."""

from __future__ import annotations

from pathlib import Path

from simscaleai.convert import converted
from simscaleai.datagen.dataset_output import DatasetOutput
from simscaleai.datagen.rewriting import Choice, Rewrite, source_hash
from simscaleai.errors import UserError, unknown_name
from simscaleai.json_types import JsonDict
from simscaleai.storage.episode import split_episodes
from simscaleai.storage.episodes import EpisodeSource, open_dataset

SPLIT_BY = ("episode", "instruction")


@converted
def split_dataset(
    dataset: str | Path,
    output_path: str | Path,
    *,
    valid_fraction: float = 0.1,
    seed: int = 0,
    by: str = "episode",
    shard_episodes: int | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
) -> JsonDict:
    """Write a dataset with another split into training and validation; other masks stay.

    Args:
      dataset: the dataset.
      output_path, shard_episodes: the file or folder to write; see `merge_datasets`.
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
    output = DatasetOutput(Path(output_path), shard_episodes, overwrite)
    output.check([dataset])
    with open_dataset(dataset) as data:
        everything = data.split("all")
        # units are episodes, or the instructions, each with its episodes
        units = {i: [i] for i in everything} if by == "episode" else _by_instruction(data)
        members = list(units.values())
        if by == "instruction" and len(members) < 2:
            raise UserError(f"{data.path} has one instruction only; split it by episode.")
        # masks name positions in the new file, which has the episodes in this order
        position = {i: k for k, i in enumerate(everything)}
        found = {
            name: sorted(position[i] for unit in chosen for i in members[unit])
            for name, chosen in split_episodes(len(members), seed, valid_fraction).items()
        }
        others = {
            name: [position[i] for i in mask if i in position]
            for name, mask in data.splits().items()
        }
        recipe = {"split_from": source_hash(data), "by": by, "seed": seed, "valid": valid_fraction}
        rewrite = Rewrite([Choice(data, everything)], recipe, splits={**others, **found})
        return rewrite.run(output, show_progress=show_progress)


def _by_instruction(data: EpisodeSource) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i in data.split("all"):
        found.setdefault(data.episodes[i].language, []).append(i)
    return dict(sorted(found.items()))
