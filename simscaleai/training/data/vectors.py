"""The vectors of a dataset: state, actions and privileged vectors of every step, by number.

A file's are read once and kept. A folder's are read shard by shard, when a step of the shard is asked for:
they stay where all fit in memory; else those used last do, and the shards that the sampler announces are
read in the background while the present ones are used.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simscaleai.array_types import Array, FloatArray
from simscaleai.errors import UserError
from simscaleai.models.normalization import Statistics
from simscaleai.observations import ObsSpec, unflatten_state
from simscaleai.storage.array_statistics import ArrayStatistics
from simscaleai.storage.episode import LABELS, OBS
from simscaleai.storage.shard_reader import ShardReader
from simscaleai.storage.step_reader import StepReader

_SAMPLED_SHARDS = 4  # from which quantiles are estimated

Tables = dict[str, torch.Tensor]
"""{"state", "actions", "labels" or "privileged <key>": (steps, d) float32}."""
Features = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class VectorLayout:
    """Which vectors are read.

    Attributes:
      obs: the observations; those that are no images make up the state.
      privileged: vectors beside it, {key: shape}.
      action_dim: width of an action.
      requests: number of instructions with a label, the expert's action; 0 to read no labels.
    """

    obs: ObsSpec
    privileged: dict[str, tuple[int, ...]]
    action_dim: int
    requests: int = 0

    @property
    def widths(self) -> dict[str, int]:
        """{table: d}."""
        named = {f"privileged {k}": math.prod(shape) for k, shape in self.privileged.items()}
        if self.requests:
            named["labels"] = self.requests * self.action_dim
        return {"state": self.obs.state_dim, "actions": self.action_dim, **named}

    @property
    def keys(self) -> list[str]:
        """The arrays of a dataset that are read."""
        vectors = dict.fromkeys([*self.obs.state_keys, *self.privileged])
        labels = [LABELS] if self.requests else []
        return [*(OBS + key for key in vectors), "actions", *labels]

    def fill(self, tables: Tables, read: Callable[[str], Array], source: Path) -> None:
        """Write all vectors into `tables`; `read` gives an array (steps, ...) by its key.

        Raises:
          UserError: an array has another width, or values that are not finite.
        """
        parts = {OBS + k: v for k, v in unflatten_state(tables["state"], self.obs).items()}
        parts["actions"] = tables["actions"]
        if self.requests:
            parts[LABELS] = tables["labels"]
        for key, part in parts.items():
            part[:] = _as_table(read(key), part.shape, key, source)
        for key in self.privileged:
            table = tables[f"privileged {key}"]
            table[:] = _as_table(read(OBS + key), table.shape, OBS + key, source)
        for name, values in tables.items():
            if not values.isfinite().all():
                raise UserError(
                    f"{source}: {name} has NaN or infinite values; see `simscale validate`."
                )


def _as_table(values: Array, shape: torch.Size, key: str, source: Path) -> torch.Tensor:
    if values.size != math.prod(shape):
        raise UserError(
            f"{source}: {key!r} has steps of {math.prod(values.shape[1:])} numbers, and of {shape[1]} in the"
            " first episode; validate the dataset."
        )
    return torch.from_numpy(values.reshape(shape).astype(np.float32, copy=False))


class Vectors(ABC):
    """The tables of a split of a dataset."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of steps."""

    @abstractmethod
    def take(self, name: str, steps: torch.Tensor) -> torch.Tensor:
        """Return steps of a table, in any order, (*steps.shape, d)."""

    @abstractmethod
    def action_bounds(self) -> tuple[FloatArray, FloatArray]:
        """Return the smallest and the largest action, (d,) each."""

    @abstractmethod
    def statistics(self, name: str, features: Features | None = None) -> Statistics:
        """Return statistics of a table, or of the features of it, over every step.

        Those of "actions" are of the labels too: actions for other instructions may reach further.
        """

    @abstractmethod
    def digests(self) -> dict[str, str]:
        """Return {name: hash} of the values."""


class FileVectors(Vectors):
    """The tables of a file, in memory.

    Args:
      readers: {key: reader} of the arrays of `layout`; they are closed.
    """

    def __init__(self, layout: VectorLayout, readers: Mapping[str, StepReader], steps: int) -> None:
        self._tables = {k: torch.zeros(steps, d) for k, d in layout.widths.items()}

        def read(key: str) -> Array:
            with closing(readers[key]) as reader:
                return reader.read_all()

        layout.fill(self._tables, read, readers["actions"].path)

    def __len__(self) -> int:
        return len(self._tables["actions"])

    def take(self, name: str, steps: torch.Tensor) -> torch.Tensor:
        return _rows(self._tables[name], steps)

    def action_bounds(self) -> tuple[FloatArray, FloatArray]:
        low, high = self._tables["actions"].aminmax(dim=0)
        return low.numpy(), high.numpy()

    def statistics(self, name: str, features: Features | None = None) -> Statistics:
        values = self._tables[name]
        if name == "actions" and "labels" in self._tables:
            values = torch.cat([values, self._tables["labels"].view(-1, values.shape[1])])
        return Statistics.of(values if features is None else features(values))

    def digests(self) -> dict[str, str]:
        return {k: hashlib.sha256(v.numpy().data).hexdigest() for k, v in self._tables.items()}


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
        self._whole = _empty(layout, len(reader)) if fits else None
        self._loaded: OrderedDict[int, Tables] = OrderedDict()  # the one used last at the end
        self._begin()

    def __len__(self) -> int:
        return len(self._reader)

    def take(self, name: str, steps: torch.Tensor) -> torch.Tensor:
        flat = steps.reshape(-1)
        if self._whole is not None and len(self._loaded) == len(self._reader.shard_steps):
            return _rows(self._whole[name], steps)
        shards = torch.from_numpy(self._reader.shard_of(flat.numpy()))
        out = torch.empty(len(flat), self._layout.widths[name])
        for shard in shards.unique().tolist():
            which = (shards == shard).nonzero()[:, 0]
            local = flat[which] - int(self._reader.starts[shard])
            out[which] = self._tables(shard)[name].index_select(0, local)
        return out.view(*steps.shape, -1)

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

        They are merged from the manifest, or for `features` from one pass over all shards. Quantiles are
        those of `_SAMPLED_SHARDS` shards, spread evenly.
        """
        shards = range(len(self._reader.shard_steps))
        if features is not None:
            parts = [
                ArrayStatistics.of(features(self._tables(j)[name]).numpy())
                for j in shards
                if self._reader.shard_steps[j]
            ]
            found = ArrayStatistics.merge(parts)
        else:
            keys = [OBS + k for k in self._layout.obs.state_keys] if name == "state" else [name]
            found = self._recorded(keys)
            if name == "actions" and self._layout.requests:
                labels = self._recorded([LABELS])
                found = ArrayStatistics.merge([found, *labels.split(self._layout.requests)])
        sampled = np.unique(np.linspace(0, len(shards) - 1, _SAMPLED_SHARDS).round().astype(int))
        tables = torch.cat([self._tables(j)[name] for j in sampled.tolist()])
        of_sample = Statistics.of(tables if features is None else features(tables))
        mean, std, low, high = (
            torch.from_numpy(v).float()
            for v in (found.mean, np.sqrt(found.variance), found.low, found.high)
        )
        return Statistics(mean, std, low, high, of_sample.low, of_sample.high)

    def digests(self) -> dict[str, str]:
        shards = "".join(row.sha256 for row in self._reader.data.rows)
        return {"shards": hashlib.sha256(f"{self._split} {shards}".encode()).hexdigest()}

    def __getstate__(self) -> dict[str, Any]:
        kept = ("_layout", "_reader", "_split", "_most_steps")
        state = {name: getattr(self, name) for name in kept}
        return {**state, "_loaded": OrderedDict(), "_whole": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._pending: dict[int, Future[Tables]] = {}
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
                steps = sum(len(t["actions"]) for t in self._loaded.values())
                while steps > self._most_steps and len(self._loaded) > 1:
                    steps -= len(self._loaded.popitem(last=False)[1]["actions"])
        return tables

    def _read(self, shard: int) -> Tables:
        start, stop = self._reader.starts[shard : shard + 2].tolist()
        if self._whole is not None:
            tables = {name: table[start:stop] for name, table in self._whole.items()}
        else:
            tables = _empty(self._layout, stop - start)
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


def _empty(layout: VectorLayout, steps: int) -> Tables:
    return {name: torch.empty(steps, width) for name, width in layout.widths.items()}


def _rows(table: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Return rows of a table (N, d), (*steps.shape, d)."""
    return table.index_select(0, steps.reshape(-1)).view(*steps.shape, table.shape[1])


class Labels:
    """The label of every step and request, as if it were a tensor (N, K, A)."""

    def __init__(self, vectors: Vectors, layout: VectorLayout) -> None:
        self._vectors = vectors
        self.shape = len(vectors), layout.requests, layout.action_dim

    def __getitem__(self, at: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Return labels (..., A) of steps and requests, whose shapes are broadcast to each other."""
        steps, requests = torch.broadcast_tensors(*at)
        labels = self._vectors.take("labels", steps).unflatten(-1, self.shape[1:])  # (..., K, A)
        index = requests[..., None, None].expand(*requests.shape, 1, self.shape[2])
        return labels.gather(-2, index).squeeze(-2)


class PerStep:
    """Values of every step that are the same for all steps of an episode.

    Args:
      values: (episodes,).
      ends: (episodes,) the step after the last one of each episode.
    """

    def __init__(self, values: torch.Tensor, ends: torch.Tensor) -> None:
        self._values, self._ends = values, ends

    def __getitem__(self, steps: torch.Tensor) -> torch.Tensor:
        return self._values[torch.searchsorted(self._ends, steps.contiguous(), right=True)]
