"""The Parquet files of a LeRobot folder as they are written, an episode at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simscaleai.json_types import JsonDict
from simscaleai.storage.lerobot import layout
from simscaleai.storage.lerobot.checked_parquet import MIB

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


_EPISODES_AT_ONCE = 1000  # lines of meta/episodes that are written together


class DataFiles:
    """The data files: a new one is begun where the last one is large enough."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, -1
        self._path = folder
        self._writer: pq.ParquetWriter | None = None

    def add(self, table: pa.Table) -> JsonDict:
        """Write an episode; return where it is."""
        import pyarrow.parquet as pq

        # by what is on disk: an episode is never divided, so files end up somewhat larger than the limit
        full = self._writer is None or self._path.stat().st_size >= layout.DATA_MB * MIB
        if self._writer is None or full:
            self.close()
            self._number += 1
            self._path = self._folder / layout.DATA.format(**layout.place(self._number))
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="snappy")
        # one row group for each episode, so that a reader can skip the others
        self._writer.write_table(table, row_group_size=len(table))
        return {f"data/{k}": v for k, v in layout.place(self._number).items()}

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class EpisodeFiles:
    """The file of meta/episodes, written some lines at a time."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / layout.EPISODES.format(**layout.place(0))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lines: list[JsonDict] = []
        self._writer: pq.ParquetWriter | None = None

    def add(self, line: JsonDict) -> None:
        self._lines.append({**line, **{f"meta/episodes/{k}": 0 for k in layout.place(0)}})
        if len(self._lines) >= _EPISODES_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        # the first lines decide the types; later ones must have the same, whatever their values
        schema = None if self._writer is None else self._writer.schema
        table = pa.Table.from_pylist(self._lines, schema=schema)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="snappy")
        self._writer.write_table(table)
        self._lines.clear()

    def close(self) -> None:
        if self._lines:
            self._flush()
        if self._writer is not None:
            self._writer.close()
