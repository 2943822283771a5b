"""The table of a sharded dataset: one row for each shard, in `manifest.parquet`.

    data/big/
      manifest.parquet    shard, episodes, seeds, success, steps, bytes, sha256, ...; and JSON about the whole
      shard-00000.h5      episodes 0..m-1, a file in the robomimic layout that stands for itself
      shard-00001.h5      ...

It is written last, and again while shards arrive, each time whole (`atomic_path`). Everything that opening a
dataset needs is in it, so that a thousand shards are opened without touching one of them.

Like everything in a dataset it is untrusted: the names of shards cannot leave the folder, sizes are compared
with the size of the file before they are allocated, and a child process parses a file first (`vetting`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simscaleai.array_types import Array
from simscaleai.errors import MissingFileError
from simscaleai.guards import guarded, regular_file
from simscaleai.json_types import JsonDict
from simscaleai.observations import MAX_RANK
from simscaleai.storage.array_statistics import ArrayStatistics
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.episode import combine_digests
from simscaleai.storage.hdf5 import MAX_IMAGE_BYTES
from simscaleai.storage.manifest_table import COUNTS, check_table_size, statistics_text, table_rows
from simscaleai.storage.shard_row import ShardRow
from simscaleai.storage.vetting import trust, vet_with

NAME = "manifest.parquet"
VERSION = 1
DIGEST_BYTES = 32
# key of the JSON about the whole dataset, in the metadata of the Parquet schema
_ABOUT = b"simscaleai"


@dataclass(frozen=True, eq=False)
class Manifest:
    """The rows of all shards, and what holds for the whole dataset.

    Attributes:
      rows: in the order of their episodes.
      about: JSON values: "version", "env_args" (text), "arrays" {key: [shape of a step, dtype]}, "recipe",
        "statistics", "content_hash", "shards" (how many there will be), "unknown" (a list of "seed" and
        "success", where no episode records it: its column is then of zeros).
    """

    rows: list[ShardRow]
    about: JsonDict

    @property
    def complete(self) -> bool:
        """Whether all shards have arrived."""
        return len(self.rows) == self.about.get("shards")

    def content_hash(self) -> str:
        """Return the content hash of the whole dataset: that of a file with the same episodes."""
        digests = (
            row.digests[k : k + DIGEST_BYTES].hex()
            for row in self.rows
            for k in range(0, len(row.digests), DIGEST_BYTES)
        )
        return combine_digests(digests, self.about["env_args"])

    def arrays(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Return {key: (shape of a step, dtype)} of the arrays of every episode."""
        found = {}
        for key, (shape, dtype) in self.about["arrays"].items():
            step_shape, kind = tuple(int(n) for n in shape), np.dtype(str(dtype))
            if len(step_shape) > MAX_RANK or min(step_shape, default=0) < 0 or kind.hasobject:
                raise ValueError(f"an array {key!r} of shape {step_shape}")
            # as floats: a product of hostile integers may wrap to a small one
            if np.prod(step_shape, dtype=float) * kind.itemsize > MAX_IMAGE_BYTES:
                raise ValueError(f"an array {key!r} of shape {step_shape}")
            found[str(key)] = step_shape, kind
        return found

    def statistics(self, split: str) -> dict[str, ArrayStatistics]:
        """Return {key: statistics} of the vectors of "train", "valid" or "all" episodes."""
        names = ("train", "valid") if split == "all" else (split,)
        parts: dict[str, list[ArrayStatistics]] = {}
        for row in self.rows:
            for name in names:
                for key, values in row.statistics.get(name, {}).items():
                    parts.setdefault(key, []).append(values)
        return {key: ArrayStatistics.merge(found) for key, found in parts.items()}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of `folder`, or replace it.

    Raises:
      CannotWriteError: the disk is full or the like.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = manifest.rows
    counts = [len(row.lengths) for row in rows]
    offsets = pa.array(np.cumsum([0, *counts]), pa.int32())
    # each instruction once, and its number in every episode
    texts = sorted({text for row in rows for text in row.instructions})
    number = {text: i for i, text in enumerate(texts)}

    def per_episode(values: Sequence[Array], kind: Any) -> Any:
        flat = np.concatenate(values) if values else np.zeros(0)
        return pa.ListArray.from_arrays(
            offsets, pa.array(flat.astype(kind.to_pandas_dtype()), kind)
        )

    columns = {
        "shard": pa.array([row.shard for row in rows], pa.string()),
        "episodes": pa.array(counts, pa.int64()),
        "seeds": per_episode([row.seeds for row in rows], pa.uint64()),
        "success": per_episode([row.successes for row in rows], pa.bool_()),
        "steps": per_episode([row.lengths for row in rows], pa.int64()),
        "instruction": per_episode(
            [np.array([number[t] for t in row.instructions], np.int64) for row in rows], pa.int32()
        ),
        "valid": per_episode([row.valid for row in rows], pa.bool_()),
        "bytes": pa.array([row.nbytes for row in rows], pa.int64()),
        "sha256": pa.array([row.sha256 for row in rows], pa.string()),
        "digests": pa.array([row.digests for row in rows], pa.binary()),
        "statistics": pa.array([statistics_text(row) for row in rows], pa.string()),
        "reward": pa.array([row.reward for row in rows], pa.float64()),
        **{name: pa.array([getattr(row, name) for row in rows], pa.int64()) for name in COUNTS},
    }
    about = json.dumps({**manifest.about, "version": VERSION, "instructions": texts})
    table = pa.table(columns).replace_schema_metadata({_ABOUT: about.encode()})
    with atomic_path(folder / NAME) as temporary:
        pq.write_table(table, temporary, compression="zstd")
        trust(temporary)


def read_manifest(folder: Path, *, digests: bool = False) -> Manifest:
    """Read the manifest of a sharded dataset.

    Args:
      folder: of the dataset.
      digests: whether to read `ShardRow.digests` too, most of the file; they are empty otherwise.

    Raises:
      UserError: there is none, or it is damaged.
    """
    path = folder / NAME
    if not regular_file(path, "manifest").exists():
        if (folder / "checkpoints").is_dir() or any(folder.glob("*.pt")):
            raise MissingFileError(
                f"{folder} holds checkpoints, and no dataset; give the file or folder that `simscale"
                " datagen` wrote."
            )
        raise MissingFileError(
            f"{folder} is a folder without {NAME}, so it is no dataset; name a file, or finish the folder"
            " with the command that writes it, and --resume."
        )
    with guarded(f"The manifest {path}", "run the command that wrote the dataset with --resume"):
        # first the claims of the footer, then a child process reads all, and only then this one
        _parse(path, digests=False, check_only=True)
        vet_with(path, lambda: _parse(path, digests=digests))
        return _parse(path, digests=digests)


def _parse(path: Path, *, digests: bool, check_only: bool = False) -> Manifest:
    """Parse a manifest; ValueError and others for what it cannot say."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path, memory_map=False, pre_buffer=False)
    check_table_size(file.metadata, path.stat().st_size)
    about = json.loads((file.schema_arrow.metadata or {})[_ABOUT])
    if not isinstance(about, dict) or about.get("version") != VERSION:
        raise ValueError("another version wrote it")
    if check_only:
        return Manifest([], about)
    wanted = [name for name in file.schema_arrow.names if digests or name != "digests"]
    # one thread: the child process that vets a file has no others
    table = file.read(columns=wanted, use_threads=False).combine_chunks()
    manifest = Manifest(table_rows(table, about), about)
    manifest.arrays()
    return manifest
