"""Merge datasets of one environment into one.

    merge_datasets(["data/a.h5", "data/b.h5"], "data/both.h5")

As all tools that rewrite datasets, it reads files or folders of shards, writes a new one of either and never
changes its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from simscaleai.convert import converted
from simscaleai.datagen.dataset_output import DatasetOutput
from simscaleai.datagen.rewriting import Choice, Rewrite, source_hash
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.storage.episodes import EpisodeSource, open_dataset


@converted
def merge_datasets(
    datasets: Sequence[str | Path],
    output_path: str | Path,
    *,
    shard_episodes: int | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
) -> JsonDict:
    """Write the episodes of several datasets of one environment to one dataset.

    An episode that equals one before it is left out. Splits are those of the sources.

    Args:
      datasets: files or folders, two or more.
      output_path: the file to write, or the folder with `shard_episodes`; as all tools that rewrite datasets.
      shard_episodes: write a folder of shards with so many episodes each.
      overwrite: replace an existing output.
      show_progress: draw a progress bar on stderr, if that is a terminal.

    Returns:
      {"total_episodes", "total_steps", "mean_episode_length", "mean_reward", "success_rate",
      "train_episodes", "valid_episodes", "output_path", "file_size_mb", "content_hash"}, and "shards" of a
      folder, as all tools that rewrite datasets; and "copies", how many episodes were left out.

    Raises:
      ExistingFileError: the output is there.
      UserError: the environments differ, with every difference, or a dataset cannot be read.
    """
    output = DatasetOutput(Path(output_path), shard_episodes, overwrite)
    output.check(datasets)
    if len(datasets) < 2:
        raise UserError("Merging takes two datasets or more; name another one.")
    with ExitStack() as stack:
        sources = [stack.enter_context(open_dataset(path)) for path in datasets]
        for other in sources[1:]:
            _require_same(sources[0], other)
        checksums: set[str] = set()  # of arrays: names and order of episodes do not count
        choices, copies = [], 0
        for data in sources:
            chosen = []
            for i in data.split("all"):
                # stored ones are trusted here; `validate` compares them
                checksum = data.episode_attribute(i, "checksum") or data.checksum(i)
                if checksum in checksums:
                    copies += 1
                else:
                    chosen.append(i)
                checksums.add(checksum)
            choices.append(Choice(data, chosen))
        recipe = {"merged_from": [source_hash(data) for data in sources]}
        result = Rewrite(choices, recipe).run(output, show_progress=show_progress)
    return result | {"copies": copies}


def _require_same(first: EpisodeSource, other: EpisodeSource) -> None:
    """Raise UserError with every difference between the environments of two datasets."""
    a, b = first.contract, other.contract
    # data of other programs has no contract: shapes and dtypes are all that can be compared
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
