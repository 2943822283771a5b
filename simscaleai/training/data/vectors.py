"""The vectors of a dataset: state, actions and privileged vectors of every step, by number.

A file's are read once and kept. A folder's are read shard by shard, when a step of the shard is asked for:
they stay where all fit in memory; else those used last do, and the shards that the sampler announces are
read in the background while the present ones are used.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import closing

import torch

from simscaleai.array_types import Array, FloatArray
from simscaleai.models.normalization import Statistics
from simscaleai.storage.step_reader import StepReader
from simscaleai.training.data.vector_layout import VectorLayout

Features = Callable[[torch.Tensor], torch.Tensor]


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
            # closed after each array: a worker must not inherit an open file
            with closing(readers[key]) as reader:
                return reader.read_all()

        layout.fill(self._tables, read, readers["actions"].path)

    def __len__(self) -> int:
        return len(self._tables["actions"])

    def take(self, name: str, steps: torch.Tensor) -> torch.Tensor:
        return take_rows(self._tables[name], steps)

    def action_bounds(self) -> tuple[FloatArray, FloatArray]:
        low, high = self._tables["actions"].aminmax(dim=0)  # (d,) each
        return low.numpy(), high.numpy()

    def statistics(self, name: str, features: Features | None = None) -> Statistics:
        values = self._tables[name]
        if name == "actions" and "labels" in self._tables:
            values = torch.cat(
                [values, self._tables["labels"].view(-1, values.shape[1])]
            )  # (N + N K, A)
        return Statistics.of(values if features is None else features(values))

    def digests(self) -> dict[str, str]:
        return {k: hashlib.sha256(v.numpy().data).hexdigest() for k, v in self._tables.items()}


def take_rows(table: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Return rows of a table (N, d), (*steps.shape, d)."""
    return table.index_select(0, steps.reshape(-1)).view(*steps.shape, table.shape[1])
