"""Rows of a manifest from the table of a Parquet file, with all checks; see `manifest`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from simscaleai.array_types import Array
from simscaleai.json_types import JsonDict
from simscaleai.storage.array_statistics import ArrayStatistics
from simscaleai.storage.shard_row import ShardRow, SplitStatistics, shard_number

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

# of uncompressed and stored bytes; ours are below 3, as seeds and digests are random
_MAX_RATIO = 64
_MIB = 2**20
COUNTS = ("attempts", "attempt_successes", "diverged", "index_offset", "index_bytes")


def check_table_size(metadata: pq.FileMetaData, file_size: int) -> None:
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


def table_rows(table: pa.Table, about: JsonDict) -> list[ShardRow]:
    """Return the rows of a table of Arrow arrays, checked."""
    texts = [str(text) for text in about["instructions"]]
    single = {
        name: table[name].to_pylist()
        for name in ("shard", "episodes", "bytes", "sha256", "statistics", "reward")
    }
    counted = {name: [int(n) for n in table[name].to_pylist()] for name in COUNTS}
    packed = (
        table["digests"].to_pylist() if "digests" in table.column_names else []
    )  # absent unless asked for
    lists = {name: _values(table, name) for name in ("steps", "seeds", "success")}
    lists |= {name: _values(table, name) for name in ("instruction", "valid")}
    counts = np.array(single["episodes"], np.int64)
    stops = np.cumsum(counts)
    # lists of all rows lie one after the other, so a row of a wrong length would shift those after it
    if (counts < 1).any() or any(len(v) != counts.sum() for v in lists.values()):
        raise ValueError("columns of different lengths")
    # names become paths; `shard_number` takes no other than our own
    if len(set(single["shard"])) != len(counts) or None in map(shard_number, single["shard"]):
        raise ValueError("a shard has a name that is none")
    if not ((lists["steps"] >= 1) & (lists["steps"] < 2**40)).all():
        raise ValueError("an episode has a length that cannot be")
    instructions, rows = lists["instruction"].tolist(), []
    # a negative one would count from the end of the list
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


def _values(table: pa.Table, name: str) -> Array:
    """Return the values of a column of lists, one after the other."""
    chunks = [np.asarray(c.flatten().to_numpy(zero_copy_only=False)) for c in table[name].chunks]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int64)


def statistics_text(row: ShardRow) -> str:
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
