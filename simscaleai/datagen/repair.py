"""Write what is sound of a damaged dataset to a new file.

    repair_dataset("data/damaged.h5", "data/sound.h5")

Left out are episodes that cannot be read, that differ from the checksum stored with them, that have no steps,
NaN or infinite values, or other arrays than most. Put right are done flags, overlapping splits, totals, the
content hash and the index.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from simscaleai.array_types import ArrayDict
from simscaleai.convert import converted
from simscaleai.datagen.dataset_output import DatasetOutput
from simscaleai.datagen.rewriting import Choice, Rewrite, source_splits
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.storage.episode import Episode, array_checksum
from simscaleai.storage.episodes import EpisodeSource, open_dataset
from simscaleai.storage.split_masks import SPLITS

Layout = tuple[tuple[str, tuple[int, ...], str], ...]
"""(key, shape of a step, dtype) of the arrays of an episode."""


@converted
def repair_dataset(
    dataset: str | Path,
    output_path: str | Path,
    *,
    shard_episodes: int | None = None,
    overwrite: bool = False,
    show_progress: bool = True,
) -> JsonDict:
    """Write the sound episodes of a dataset to a new one.

    The output is a file, or a folder of shards with `shard_episodes`; see `merge_datasets`.

    Returns:
      as `merge_datasets`, and "left_out" (how many episodes) and "reasons" {reason: how many}.

    Raises:
      ExistingFileError: the output is there.
      UserError: the file itself cannot be opened, or no episode is sound.
    """
    output = DatasetOutput(Path(output_path), shard_episodes, overwrite)
    output.check([dataset])
    with open_dataset(dataset, use_index=False) as data:
        reasons: Counter[str] = Counter()
        layouts: dict[int, Layout] = {}
        for i in data.split("all"):
            found = _examine(data, i)
            if isinstance(found, str):
                reasons[found] += 1
            else:
                layouts[i] = found
        if layouts:
            usual = Counter(layouts.values()).most_common(1)[0][0]
            odd = [i for i, layout in layouts.items() if layout != usual]
            reasons["other arrays than most episodes"] += len(odd)
        sound = [i for i in layouts if layouts[i] == usual]
        choices = [Choice(data, sound)]
        recipe = {"repaired_from": str(data.attribute("content_hash", ""))}
        rewrite = Rewrite(choices, recipe, _disjoint(choices), change=_with_dones)
        result = rewrite.run(output, show_progress=show_progress)
    counted = {reason: count for reason, count in reasons.items() if count}
    return result | {"left_out": sum(counted.values()), "reasons": counted}


def _examine(data: EpisodeSource, i: int) -> Layout | str:
    """Return the layout of a sound episode, or why it is left out."""
    if not data.episodes[i].length:
        return "no steps"
    try:
        arrays: ArrayDict = {key: data.read(i, key) for key in data.keys(i)}
        stored = data.episode_attribute(i, "checksum")
    except UserError:
        return "unreadable"
    if stored is not None and stored != array_checksum(arrays):
        return "changed since it was written"
    if any(v.dtype.kind == "f" and not np.isfinite(v).all() for v in arrays.values()):
        return "NaN or infinite values"
    return tuple((k, v.shape[1:], v.dtype.name) for k, v in sorted(arrays.items()))


def _disjoint(choices: Sequence[Choice]) -> dict[str, list[int]]:
    """Return the splits of the sources; an episode in both is for training only."""
    splits = source_splits(choices)
    train, valid = (set(splits.get(name, ())) for name in SPLITS)
    return {**splits, "valid": sorted(valid - train)}


def _with_dones(episode: Episode) -> Episode:
    return replace(episode, dones=np.arange(len(episode)) == len(episode) - 1)
