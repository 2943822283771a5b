"""The vectors of a folder of shards, read shard by shard when they are needed; see `vectors`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from simscaleai.array_types import FloatArray, IntArray
from simscaleai.errors import UserError
from simscaleai.models.normalization import Statistics
from simscaleai.storage.array_statistics import ArrayStatistics
from simscaleai.storage.episode import LABELS, OBS
from simscaleai.storage.shard_reader import ShardReader
from simscaleai.tensor_types import StateDict
from simscaleai.training.data.shard_tables import ShardTables
from simscaleai.training.data.vector_layout import Tables, VectorLayout, empty_tables
from simscaleai.training.data.vectors import Features, Vectors

_SAMPLED_SHARDS = 4  # from which quantiles are estimated
_FEATURE_SHARDS = 8  # from which everything is estimated that the manifest does not have


class ShardedVectors(Vectors):
    """The tables of a folder of shards, read when they are needed.

    Args:
      reader: of the arrays of `layout`, over the episodes of a split.
      budget: bytes of memory for tables.
      least: bytes that are kept in any case, two blocks of the sampler and a shard: steps of the end of a
        block wait for the next one, and the end of a ring may be too short for a shard.
    """

    # the newest steps that were asked for, and their rows
    _found: tuple[torch.Tensor, torch.Tensor | None]

    def __init__(
        self, layout: VectorLayout, reader: ShardReader, split: str, budget: int, least: int
    ) -> None:
        self._layout, self._reader, self._split = layout, reader, split
        step_nbytes = 4 * sum(layout.widths.values())
        self._rows = min(max(budget, least) // step_nbytes, len(reader))
        self._begin()
        self._empty()

    def __len__(self) -> int:
        return len(self._reader)

    def take(self, name: str, steps: torch.Tensor) -> torch.Tensor:
        width = self._layout.widths[name]
        # state and actions of a batch are of the same steps, which are looked up once
        if steps is not self._found[0]:
            self._found = steps, self._find(steps)
        rows = self._found[1]
        if rows is not None:
            return self._ring.take(name, rows).view(*steps.shape, width)
        # There is not room for all at once: shard by shard.
        flat = steps.reshape(-1)
        shards = self._reader.shard_of(flat.numpy())
        out = torch.empty(len(flat), width)
        for shard in np.unique(shards).tolist():
            which = torch.from_numpy(np.flatnonzero(shards == shard))
            out[which] = self.take(name, flat[which])
        return out.view(*steps.shape, width)

    def _find(self, steps: torch.Tensor) -> torch.Tensor | None:
        """Return the rows of the ring in which steps lie, (number of steps,); None if they have no room."""
        flat = steps.reshape(-1).numpy()
        shards = self._reader.shard_of(flat)
        if not self._load(shards):
            return None
        return self._ring.rows(shards, flat - self._reader.starts[shards])

    def announce(self, shards: Iterable[int]) -> None:
        """Begin to read shards in the background, in this order, whose steps are needed next."""
        if self._process != os.getpid():  # threads do not survive a fork
            self._begin()
        wanted = np.fromiter(shards, np.int64)
        for shard in wanted[self._ring.missing(wanted)].tolist():
            if shard not in self._pending:
                self._pending[shard] = self._threads.submit(self._read, shard)

    def action_bounds(self) -> tuple[FloatArray, FloatArray]:
        found = self._recorded(["actions"])
        return found.low, found.high

    def statistics(self, name: str, features: Features | None = None) -> Statistics:
        """Return statistics of a table: mean, deviation and range over every step.

        They are merged from the manifest, but those of `features` are of `_FEATURE_SHARDS` shards: reading a
        large dataset before the first step would take minutes. Quantiles are those of `_SAMPLED_SHARDS`
        shards. Both are spread evenly.
        """
        if features is not None:
            parts = [
                ArrayStatistics.of(features(self._shard(j, name)).numpy())
                for j in self._sampled(_FEATURE_SHARDS)
            ]
            found = ArrayStatistics.merge(parts)
        else:
            keys = [OBS + k for k in self._layout.obs.state_keys] if name == "state" else [name]
            found = self._recorded(keys)
            if name == "actions" and self._layout.requests:
                labels = self._recorded([LABELS])
                found = ArrayStatistics.merge([found, *labels.split(self._layout.requests)])
        tables = torch.cat([self._shard(j, name) for j in self._sampled(_SAMPLED_SHARDS)])
        of_sample = Statistics.of(tables if features is None else features(tables))
        mean, std, low, high = (
            torch.from_numpy(v).float()
            for v in (found.mean, np.sqrt(found.variance), found.low, found.high)
        )
        return Statistics(mean, std, low, high, of_sample.low, of_sample.high)

    def _sampled(self, count: int) -> list[int]:
        """Return up to `count` of the shards that have steps of the split, spread evenly."""
        filled = np.flatnonzero(self._reader.shard_steps)
        which = np.unique(np.linspace(0, len(filled) - 1, count).round().astype(int))
        return [int(j) for j in filled[which]]

    def digests(self) -> dict[str, str]:
        # of the files as the manifest has them: hashing every value would read the whole folder
        shards = "".join(row.sha256 for row in self._reader.data.rows)
        return {"shards": hashlib.sha256(f"{self._split} {shards}".encode()).hexdigest()}

    def __getstate__(self) -> StateDict:
        # a worker reads what it needs by itself; threads cannot be sent
        kept = ("_layout", "_reader", "_split", "_rows")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: StateDict) -> None:
        self.__dict__.update(state)
        self._begin()
        self._empty()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._pending: dict[int, Future[Tables]] = {}
        # one thread, so that shards are read in the order in which they are needed
        self._threads = ThreadPoolExecutor(1, "simscaleai-shards")

    def _empty(self) -> None:
        self._ring = ShardTables(self._layout, self._reader.shard_steps, self._rows)
        self._found = torch.empty(0, dtype=torch.int64), None

    def _shard(self, shard: int, name: str) -> torch.Tensor:
        """Return a table of a shard, (steps, d)."""
        start, stop = self._reader.starts[shard : shard + 2].tolist()
        return self.take(name, torch.arange(start, stop))

    def _load(self, shards: IntArray) -> bool:
        """Take the shards that are missing into the ring, in turn; return whether there is room for all."""
        missing = self._ring.missing(shards)
        if not missing.any():
            return True
        if self._process != os.getpid():
            self._begin()
        for shard in np.unique(shards[missing]).tolist():
            pending = self._pending.pop(shard, None)
            # one that no thread has begun is read here, and the thread goes on with the next
            tables = self._read(shard) if pending is None or pending.cancel() else pending.result()
            self._ring.put(shard, tables)
        return not self._ring.missing(shards).any()

    def _read(self, shard: int) -> Tables:
        tables = empty_tables(self._layout, int(self._reader.shard_steps[shard]))
        arrays = self._reader.read_shard(shard, self._layout.keys)
        self._layout.fill(tables, arrays.__getitem__, self._reader.data.shard_path(shard))
        return tables

    def _recorded(self, keys: Sequence[str]) -> ArrayStatistics:
        """Return the statistics of some arrays side by side, as the manifest has them."""
        recorded = self._reader.data.manifest.statistics(self._split)
        if missing := [key for key in keys if key not in recorded]:
            raise UserError(
                f"The manifest of {self._reader.path} has no statistics of {missing[0]!r}; make it again with"
                " the command that wrote the dataset, and --resume."
            )
        parts = [recorded[key] for key in keys]
        fields = ("mean", "variance", "low", "high")
        joined = (np.concatenate([getattr(p, name) for p in parts]) for name in fields)
        return ArrayStatistics(parts[0].count, *joined)
