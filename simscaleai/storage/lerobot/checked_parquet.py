"""Open Parquet files that are not trusted: their sizes are compared with those of the files first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simscaleai.storage.vetting import vet_with

if TYPE_CHECKING:
    import pyarrow.parquet as pq


_MAX_RATIO = 1000  # of uncompressed and stored bytes: counters and equal texts compress well
_MAX_GROUP = 2**31  # bytes of a row group of data, uncompressed
MIB = 2**20


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file without mapping it into memory."""
    import pyarrow.parquet as pq

    # neither mapped nor read ahead: a file that shrinks while it is read must not end the process
    return pq.ParquetFile(path, memory_map=False, pre_buffer=False)


def read_metadata(path: Path) -> pq.FileMetaData:
    return open_parquet(path).metadata


def check_size(metadata: pq.FileMetaData, file_size: int, most: int = _MAX_GROUP) -> None:
    """Raise ValueError for row groups that a file of this size cannot hold, or that are too large."""
    # every number here is a claim of the file, made before anything is decompressed
    total = 0
    for group in range(metadata.num_row_groups):
        size = sum(
            metadata.row_group(group).column(k).total_uncompressed_size
            for k in range(metadata.num_columns)
        )
        if not 0 <= size <= most:
            raise ValueError("it decompresses to more than is allowed")
        total += size
    if total > _MAX_RATIO * file_size + 16 * MIB or metadata.num_rows > _MAX_RATIO * file_size:
        raise ValueError("it decompresses to more than is allowed")


def vet_data(path: Path) -> None:
    """Read a data file in a child process first, batch by batch, if it is small enough to be vetted."""

    def read() -> None:
        # the values are thrown away: a parser that crashes does so in the child process
        for _ in open_parquet(path).iter_batches(batch_size=64, use_threads=False):
            pass

    vet_with(path, read)
