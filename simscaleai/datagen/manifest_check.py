"""Compare the manifest of a sharded dataset with the shards that it lists."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simscaleai.datagen.shard_file import read_row
from simscaleai.storage.manifest import read_manifest
from simscaleai.storage.shard_row import ShardRow, SplitStatistics
from simscaleai.storage.sharded_dataset import ShardedDataset

_EXACT = ("sha256", "digests", "instructions", "index_offset", "index_bytes")
_ARRAYS = ("lengths", "seeds", "successes", "valid")
_CLOSE = 1e-9  # relative; the order of sums is that of the episodes, but libraries differ


def manifest_problems(data: ShardedDataset) -> Iterator[tuple[str, str]]:
    """Yield (what is wrong, shard) for all that the manifest says and a shard does not hold.

    Every shard is read once more, without its images.
    """
    if not data.manifest.complete:
        missing = data.manifest.about.get("shards", 0) - len(data.rows)
        yield (
            f"{missing} shards are missing: run the command that writes the dataset with --resume",
            "",
        )
    for row in read_manifest(data.path, digests=True).rows:
        for name in _differences(row, read_row(data.path / row.shard)):
            yield f"the manifest gives another {name} than the shard has", row.shard


def _differences(stated: ShardRow, found: ShardRow) -> list[str]:
    """Return the names of what differs."""
    names = [name for name in _EXACT if getattr(stated, name) != getattr(found, name)]
    names += [
        name for name in _ARRAYS if not np.array_equal(getattr(stated, name), getattr(found, name))
    ]
    return names if _close(stated.statistics, found.statistics) else [*names, "statistics"]


def _close(stated: SplitStatistics, found: SplitStatistics) -> bool:
    """Return whether two statistics are the same but for rounding."""
    if {k: v.keys() for k, v in stated.items()} != {k: v.keys() for k, v in found.items()}:
        return False
    return all(
        a.count == b.count
        and all(
            np.allclose(getattr(a, name), getattr(b, name), rtol=_CLOSE, atol=_CLOSE)
            for name in ("mean", "variance", "low", "high")
        )
        for split, by_key in stated.items()
        for a, b in ((by_key[key], found[split][key]) for key in by_key)
    )
