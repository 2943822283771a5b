"""The vectors of a folder of shards, read shard by shard when they are needed; see `vectors`."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from simscaleai.array_types import FloatArray
from simscaleai.errors import UserError
from simscaleai.models.normalization import Statistics
from simscaleai.storage.array_statistics import ArrayStatistics
from simscaleai.storage.episode import LABELS, OBS
from simscaleai.storage.shard_reader import ShardReader
from simscaleai.tensor_types import StateDict
from simscaleai.training.data.vector_layout import Tables, VectorLayout, empty_tables
from simscaleai.training.data.vectors import Features, Vectors, take_rows

_SAMPLED_SHARDS = 4  # from which quantiles are estimated
_FEATURE_SHARDS = 8  # from which everything is estimated that the manifest does not have


class ShardedVectors(Vectors):
    """The tables of a folder of shards, read when they are needed.

    Args:
      reader: of the arrays of `layout`, over the episodes of a split.
      budget: bytes of memory for tables.
      least: bytes that are kept in any case, two blocks of the sampler: the present and the next.
    """

    def __init__(
        self, layout: VectorLayout, reader: ShardReader, split: str, budget: int, least: int
    ) -> None:
        self._layout, self._reader, self._split = layout, reader, split
        step_nbytes = 4 * sum(layout.widths.values())
        self._most_steps = max(budget, least) // step_nbytes
        # In one piece where all fits. Memory that nothing was written to takes no room yet.
        fits = len(reader) <= self._most_steps
        self._whole = empty_tables(layout, len(reader)) if fits else None
        self._loaded: OrderedDict[int, Tables] = OrderedDict()  # the one used last at the end
        self._begin()

    def __len__(self) -> int:
        return len(self._reader)

    def take(self, name: str, steps: torch.Tensor) -> torch.Tensor:
        flat = steps.reshape(-1).numpy()
        if self._whole is not None and len(self._loaded) == len(self._reader.shard_steps):
            return take_rows(self._whole[name], steps)
        shards = self._reader.shard_of(flat)
        if self._whole is not None:
            for shard in np.unique(shards).tolist():
                self._tables(shard)  # reads them, if they are not there
            return take_rows(self._whole[name], steps)
        order = np.argsort(shards, kind="stable")
        used, begins = np.unique(shards[order], return_index=True)
        # Shard by shard: the steps of a batch lie in those of one or two blocks. With NumPy, as these are
        # many small pieces, for which a call of PyTorch takes ten times as long.
        out = np.empty((len(flat), self._layout.widths[name]), np.float32)
        for shard, which in zip(used.tolist(), np.split(order, begins[1:]), strict=True):
            local = flat[which] - self._reader.starts[shard]
            out[which] = self._tables(shard)[name].numpy()[local]
        return torch.from_numpy(out).view(*steps.shape, out.shape[1])

    def announce(self, shards: Iterable[int]) -> None:
        """Begin to read shards in the background, in this order, whose steps are needed next."""
        if self._process != os.getpid():  # threads do not survive a fork
            self._begin()
        with self._lock:
            for shard in shards:
                if shard not in self._loaded and shard not in self._pending:
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
                ArrayStatistics.of(features(self._tables(j)[name]).numpy())
                for j in self._sampled(_FEATURE_SHARDS)
            ]
            found = ArrayStatistics.merge(parts)
        else:
            keys = [OBS + k for k in self._layout.obs.state_keys] if name == "state" else [name]
            found = self._recorded(keys)
            if name == "actions" and self._layout.requests:
                labels = self._recorded([LABELS])
                found = ArrayStatistics.merge([found, *labels.split(self._layout.requests)])
        tables = torch.cat([self._tables(j)[name] for j in self._sampled(_SAMPLED_SHARDS)])
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
        # a worker reads what it needs by itself; locks and threads cannot be sent
        kept = ("_layout", "_reader", "_split", "_most_steps")
        state = {name: getattr(self, name) for name in kept}
        return {**state, "_loaded": OrderedDict(), "_whole": None}

    def __setstate__(self, state: StateDict) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._pending: dict[int, Future[Tables]] = {}
        # one thread, so that shards are read in the order in which they are needed
        self._threads = ThreadPoolExecutor(1, "simscaleai-shards")

    def _tables(self, shard: int) -> Tables:
        """Return the tables of a shard; of those used longest ago some are dropped."""
        if self._process != os.getpid():
            self._begin()
        with self._lock:
            if shard in self._loaded:
                self._loaded.move_to_end(shard)
                return self._loaded[shard]
            pending = self._pending.pop(shard, None)
        # one that no thread has begun is read here, and the thread goes on with the next
        tables = self._read(shard) if pending is None or pending.cancel() else pending.result()
        with self._lock:
            self._loaded[shard] = tables
            if self._whole is None:
                # at least one stays, however small the budget: it is the one that was asked for
                steps = sum(len(t["actions"]) for t in self._loaded.values())
                while steps > self._most_steps and len(self._loaded) > 1:
                    steps -= len(self._loaded.popitem(last=False)[1]["actions"])
        return tables

    def _read(self, shard: int) -> Tables:
        start, stop = self._reader.starts[shard : shard + 2].tolist()
        if self._whole is not None:
            tables = {name: table[start:stop] for name, table in self._whole.items()}
        else:
            tables = empty_tables(self._layout, stop - start)
        if stop > start:
            arrays = self._reader.read_shard(shard, self._layout.keys)
            source = self._reader.data.shard_path(shard)
            self._layout.fill(tables, arrays.__getitem__, source)
        return tables

    def _recorded(self, keys: Sequence[str]) -> ArrayStatistics:
        """Return the statistics of some arrays side by side, as the manifest has them."""
        recorded = self._reader.data.manifest.statistics(self._split)
        if missing := [key for key in keys if key not in recorded]:
            raise UserError(
                f"The manifest of {self._reader.path} has no statistics of {missing[0]!r}; make it again with"
                " `simscale datagen ... --resume`."
            )
        parts = [recorded[key] for key in keys]
        fields = ("mean", "variance", "low", "high")
        joined = (np.concatenate([getattr(p, name) for p in parts]) for name in fields)
        return ArrayStatistics(parts[0].count, *joined)
