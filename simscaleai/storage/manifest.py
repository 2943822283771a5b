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
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simscaleai.array_types import Array, BoolArray, IntArray
from simscaleai.errors import MissingFileError
from simscaleai.guards import guarded, regular_file
from simscaleai.json_types import JsonDict
from simscaleai.observations import MAX_RANK
from simscaleai.storage.array_statistics import ArrayStatistics
from simscaleai.storage.atomic import atomic_path
from simscaleai.storage.hdf5 import MAX_IMAGE_BYTES
from simscaleai.storage.vetting import vet_with

NAME = "manifest.parquet"
VERSION = 1
DIGEST_BYTES = 32
_ABOUT = (
    b"simscaleai"  # key of the JSON about the whole dataset, in the metadata of the Parquet schema
)
_SHARD = re.compile(r"shard-\d{5,9}\.h5")
_MAX_RATIO = (
    64  # of uncompressed and stored bytes; ours are below 3, as seeds and digests are random
)
_MIB = 2**20
_COUNTS = ("attempts", "attempt_successes", "diverged", "index_offset", "index_bytes")

SplitStatistics = dict[str, dict[str, ArrayStatistics]]
"""{"train" or "valid": {key of a vector: its statistics}}; a split without steps is left out."""


ArrayShapes = dict[str, tuple[list[int], str]]
"""{key: (shape of a step, dtype)}, as JSON values."""


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05d}.h5"


def shard_number(name: str) -> int | None:
    """Return the number in the file name of a shard; None for another name."""
    return int(name[6:-3]) if _SHARD.fullmatch(name) else None


@dataclass(frozen=True, eq=False)
class ShardRow:
    """What the manifest says of one shard.

    Attributes:
      shard: file name.
      lengths, seeds, successes: (episodes,) of its episodes, in order.
      instructions: one of each episode.
      valid: (episodes,) bool, which are for validation; the others are for training.
      nbytes, sha256: of the file.
      digests: `DIGEST_BYTES` for each episode, from which the content hash of the dataset is made.
      statistics: of its vectors.
      reward: sum over all steps.
      attempts, attempt_successes, diverged: episodes that were run to make it, those that succeeded, and
        those whose physics became unstable.
      arrays: shapes of its arrays; not written with the row, as they are the same for all.
      index_offset, index_bytes: where the table of the file's chunks is (`storage.index`); 0 bytes for none.
    """

    shard: str
    lengths: IntArray
    seeds: NDArray[np.uint64]
    successes: BoolArray
    instructions: list[str]
    valid: BoolArray
    nbytes: int
    sha256: str
    digests: bytes
    statistics: SplitStatistics = field(default_factory=dict)
    reward: float = 0.0
    attempts: int = 0
    attempt_successes: int = 0
    diverged: int = 0
    index_offset: int = 0
    index_bytes: int = 0
    arrays: ArrayShapes = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Manifest:
    """The rows of all shards, and what holds for the whole dataset.

    Attributes:
      rows: in the order of their episodes.
      about: JSON values: "version", "env_args" (text), "arrays" {key: [shape of a step, dtype]}, "recipe",
        "statistics", "content_hash", "shards" (how many there will be).
    """

    rows: list[ShardRow]
    about: JsonDict

    @property
    def complete(self) -> bool:
        """Whether all shards have arrived."""
        return len(self.rows) == self.about.get("shards")

    def arrays(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Return {key: (shape of a step, dtype)} of the arrays of every episode."""
        found = {}
        for key, (shape, dtype) in self.about["arrays"].items():
            step_shape, kind = tuple(int(n) for n in shape), np.dtype(str(dtype))
            if len(step_shape) > MAX_RANK or min(step_shape, default=0) < 0 or kind.hasobject:
                raise ValueError(f"an array {key!r} of shape {step_shape}")
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
        "statistics": pa.array([_statistics_text(row) for row in rows], pa.string()),
        "reward": pa.array([row.reward for row in rows], pa.float64()),
        **{name: pa.array([getattr(row, name) for row in rows], pa.int64()) for name in _COUNTS},
    }
    about = json.dumps({**manifest.about, "version": VERSION, "instructions": texts})
    table = pa.table(columns).replace_schema_metadata({_ABOUT: about.encode()})
    with atomic_path(folder / NAME) as temporary:
        pq.write_table(table, temporary, compression="zstd")


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
        raise MissingFileError(
            f"{folder} is a folder without {NAME}, so it is no dataset; name a file, or finish the folder"
            " with `simscale datagen ... --resume`."
        )
    with guarded(f"The manifest {path}", "make it again with `simscale datagen ... --resume`"):
        _parse(path, digests=False, check_only=True)
        vet_with(path, lambda: _parse(path, digests=digests))
        return _parse(path, digests=digests)


def _parse(path: Path, *, digests: bool, check_only: bool = False) -> Manifest:
    """Parse a manifest; ValueError and others for what it cannot say."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path, memory_map=False, pre_buffer=False)
    _check_sizes(file.metadata, path.stat().st_size)
    about = json.loads((file.schema_arrow.metadata or {})[_ABOUT])
    if not isinstance(about, dict) or about.get("version") != VERSION:
        raise ValueError("another version wrote it")
    if check_only:
        return Manifest([], about)
    wanted = [name for name in file.schema_arrow.names if digests or name != "digests"]
    # one thread: the child process that vets a file has no others
    table = file.read(columns=wanted, use_threads=False).combine_chunks()
    manifest = Manifest(_rows(table, about), about)
    manifest.arrays()
    return manifest


def _check_sizes(metadata: Any, file_size: int) -> None:
    """Raise ValueError for more values or bytes than a file of this size can hold."""
    if metadata.num_rows > file_size:
        raise ValueError("it claims more shards than fit in the file")
    total = 0
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            # a seed and a digest of every episode do not compress: 40 bytes
            if chunk.num_values > file_size:
                raise ValueError("it claims more episodes than fit in the file")
            total += chunk.total_uncompressed_size
    if total > _MAX_RATIO * file_size + _MIB:
        raise ValueError("it decompresses to more than is allowed")


def _rows(table: Any, about: JsonDict) -> list[ShardRow]:
    """Return the rows of a table of Arrow arrays, checked."""
    texts = [str(text) for text in about["instructions"]]
    single = {
        name: table[name].to_pylist()
        for name in ("shard", "episodes", "bytes", "sha256", "statistics", "reward")
    }
    counted = {name: [int(n) for n in table[name].to_pylist()] for name in _COUNTS}
    packed = table["digests"].to_pylist() if "digests" in table.column_names else []
    lists = {name: _values(table, name) for name in ("steps", "seeds", "success")}
    lists |= {name: _values(table, name) for name in ("instruction", "valid")}
    counts = np.array(single["episodes"], np.int64)
    stops = np.cumsum(counts)
    if (counts < 1).any() or any(len(v) != counts.sum() for v in lists.values()):
        raise ValueError("columns of different lengths")
    if len(set(single["shard"])) != len(counts) or None in map(shard_number, single["shard"]):
        raise ValueError("a shard has a name that is none")
    if not ((lists["steps"] >= 1) & (lists["steps"] < 2**40)).all():
        raise ValueError("an episode has a length that cannot be")
    instructions, rows = lists["instruction"].tolist(), []
    if any(not 0 <= i < len(texts) for i in instructions):
        raise ValueError("instructions that are not there")
    for i, stop in enumerate(stops.tolist()):
        part = slice(stop - int(counts[i]), stop)
        rows.append(
            ShardRow(
                shard=single["shard"][i],
                lengths=lists["steps"][part].astype(np.int64),
                seeds=lists["seeds"][part].astype(np.uint64),
                successes=lists["success"][part].astype(bool),
                instructions=[texts[k] for k in instructions[part]],
                valid=lists["valid"][part].astype(bool),
                nbytes=int(single["bytes"][i]),
                sha256=str(single["sha256"][i]),
                digests=packed[i] if packed else b"",
                statistics=_statistics(single["statistics"][i]),
                reward=float(single["reward"][i]),
                attempts=counted["attempts"][i],
                attempt_successes=counted["attempt_successes"][i],
                diverged=counted["diverged"][i],
                index_offset=counted["index_offset"][i],
                index_bytes=counted["index_bytes"][i],
            )
        )
    return rows


def _values(table: Any, name: str) -> Array:
    """Return the values of a column of lists, one after the other."""
    chunks = [np.asarray(c.flatten().to_numpy(zero_copy_only=False)) for c in table[name].chunks]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int64)


def _statistics_text(row: ShardRow) -> str:
    return json.dumps(
        {
            split: {key: values.to_dict() for key, values in by_key.items()}
            for split, by_key in row.statistics.items()
        }
    )


def _statistics(text: str) -> SplitStatistics:
    return {
        str(split): {str(key): ArrayStatistics.from_dict(v) for key, v in by_key.items()}
        for split, by_key in json.loads(text).items()
    }
