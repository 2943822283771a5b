"""Batches that a dataset reads as a whole.

A dataset with `__getitems__` is given all indices of a batch at once. Ours reads them together and returns
`Samples`, a sequence of samples that is backed by the batch: PyTorch's default collation stacks the samples
again, and `collate` takes the batch as it is, without a copy.

    DataLoader(dataset, batch_size=32)                                # works
    DataLoader(dataset, batch_size=32, collate_fn=dataset.collate)    # as fast as `make_loader`

Images are float (3, H, W) in [0, 1] for everyone, but they may be sent as the bytes they are stored as, a
quarter of the size: from a worker, and to a GPU. Such observations are a `StoredImages`, which `as_floats`
turns into what a model reads, on whichever device they have arrived.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch.utils.data import Dataset, default_collate

from simscaleai.array_types import IntArray
from simscaleai.json_types import JsonDict
from simscaleai.models.inference import as_image
from simscaleai.tensor_types import Batch, Tensors
from simscaleai.training.data.sampler import Blocks

Transform = Callable[[Batch], Any]
"""A function of one sample; what it returns is up to its author."""

Indices = Sequence[int] | IntArray | torch.Tensor


class StoredImages(dict[str, torch.Tensor]):
    """Observations {key: (B, ...)} whose images still are (B, H, W, C) uint8."""


def as_floats(obs: Tensors) -> Tensors:
    """Observations with images (B, C, H, W) float32 in [0, 1]."""
    return {k: as_image(v) for k, v in obs.items()}


class Samples(Sequence[Batch]):
    """The samples of a batch, cut out of it when they are asked for.

    Attributes:
      batch: {"observations": {key: (B, ...)}, "actions": (B, ...), ...}.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch["actions"])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return _sample(self.batch, index)


def collate(samples: Sequence[Any]) -> Any:
    """Return the batch behind `Samples`, or collate single samples as PyTorch does."""
    # single samples come here where a transform is set, or from a dataset of a user's own
    return samples.batch if isinstance(samples, Samples) else default_collate(list(samples))


class BatchedDataset(Dataset[Batch]):
    """A map-style dataset that is defined by `read`, a whole batch at a time.

    With a `transform`, a function of one sample, samples are read one by one.
    """

    transform: Transform | None = None
    _stored = False  # whether batches keep images as bytes; see `as_stored`

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, indices: torch.Tensor) -> Batch:
        """Return the samples at `indices` (B,) int64, each leaf with a leading axis B; images as stored."""
        raise NotImplementedError

    @property
    def blocks(self) -> Blocks | None:
        """How the samples lie in shards; None where they are all at hand."""
        return None

    def prepare(self) -> None:
        """Do what is to be done once, before the first batch, in the process that reads it."""

    def identity(self) -> JsonDict:
        """Return plain values that identify the samples; empty if there are none."""
        return {}

    def as_stored(self) -> Self:
        """Return the same dataset with batches of `StoredImages`, for a loop that calls `as_floats`."""
        # shallow: both share the tables in memory, and differ in the flag alone
        other = copy.copy(self)
        other._stored = True
        return other

    def __getitem__(self, idx: int) -> Batch:
        if not -len(self) <= idx < len(self):
            raise IndexError(f"index {idx} of {len(self)} samples")
        # negative indices count from the end, as a list's do
        batch = self.read(torch.tensor([idx % len(self)]))
        sample = _sample({**batch, "observations": as_floats(batch["observations"])}, 0)
        return sample if self.transform is None else self.transform(sample)

    def __getitems__(self, indices: Indices) -> Sequence[Any]:
        # here and not when the dataset is made: one that only gives its spec need not read any image
        self.prepare()
        if self.transform is not None:
            return [self[int(i)] for i in indices]
        batch = self.read(torch.as_tensor(indices))
        convert = StoredImages if self._stored else as_floats
        return Samples({**batch, "observations": convert(batch["observations"])})

    collate = staticmethod(collate)


def _sample(batch: Any, index: int) -> Any:
    """Return entry `index` of every leaf."""
    if isinstance(batch, dict):
        return {k: _sample(v, index) for k, v in batch.items()}
    return batch[index]


def is_group(batch: Any) -> bool:
    """Whether a list or tuple holds parts of a batch, as (inputs, targets), and not one value a sample."""
    if not isinstance(batch, list | tuple):
        return False
    return any(isinstance(p, dict) or hasattr(p, "ndim") or is_group(p) for p in batch)


def map_group(function: Callable[[Any], Any], group: Any) -> Any:
    """The group with a function of each part in its place; a named tuple stays one."""
    parts = [function(part) for part in group]
    # a named tuple takes its parts one by one, a list or tuple takes them as one sequence
    return type(group)(*parts) if hasattr(group, "_fields") else type(group)(parts)
