"""Batches that a dataset puts together itself.

A dataset with `__getitems__` is handed all indices of a batch at once. What ours returns is a list of
one `Batch`, already collated; PyTorch's default collation is told to take it as it is, and so a plain
`DataLoader(dataset, batch_size=32)` runs at the same speed as ours.

Images are float (3, H, W) in [0, 1] for everyone, but they may travel as the bytes they are stored as, a
quarter of the size: from a worker, and to a GPU. Such observations are a `StoredImages`, which `as_floats`
turns into what a model reads, on whichever device they have arrived.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

from simscaleai.models.inference import as_image

Indices = Sequence[int] | NDArray[Any] | torch.Tensor


class Batch(dict[str, Any]):
    """{"observations": {key: (B, ...)}, "actions": (B, ...), ...}."""


class StoredImages(dict[str, Any]):
    """Observations {key: (B, ...)} whose images still are (B, H, W, C) uint8."""


def as_floats(obs: dict[str, Any]) -> dict[str, Any]:
    """Observations with images (B, C, H, W) float32 in [0, 1]."""
    return {k: as_image(v) for k, v in obs.items()}


def _unwrap(batch: list[Batch], *, collate_fn_map: Any = None) -> dict[str, Any]:
    (only,) = batch
    return dict(only)


default_collate_fn_map[Batch] = _unwrap


class BatchedDataset(Dataset[dict[str, Any]]):
    """A map-style dataset that is defined by `read`, a whole batch at a time.

    With a `transform`, a function of one sample, samples are read one by one.
    """

    transform: Any = None
    _stored = False

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, indices: torch.Tensor) -> dict[str, Any]:
        """The samples at `indices` (B,) int64, each leaf with a leading axis B; images as stored."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What is to be done once, before the first batch, by the process that reads it."""

    def identity(self) -> dict[str, Any]:
        """Plain values by which the same samples are known again; empty where that is not told."""
        return {}

    def as_stored(self) -> Self:
        """The same dataset, whose batches have `StoredImages`; for a loop that calls `as_floats`."""
        other = copy.copy(self)
        other._stored = True
        return other

    def __getitem__(self, idx: int) -> dict[str, Any]:
        if not -len(self) <= idx < len(self):
            raise IndexError(f"index {idx} of {len(self)} samples")
        batch = self.read(torch.tensor([idx % len(self)]))
        sample = _first({**batch, "observations": as_floats(batch["observations"])})
        return sample if self.transform is None else self.transform(sample)

    def __getitems__(self, indices: Indices) -> list[Any]:
        self.prepare()
        if self.transform is not None:
            return [self[int(i)] for i in indices]
        batch = self.read(torch.as_tensor(indices))
        convert = StoredImages if self._stored else as_floats
        return [Batch({**batch, "observations": convert(batch["observations"])})]

    @staticmethod
    def collate(samples: Any) -> dict[str, Any]:
        """One batch from what `__getitems__` gave, or from single samples."""
        return samples if isinstance(samples, dict) else default_collate(list(samples))


def _first(batch: Any) -> Any:
    """The first row of every leaf."""
    if isinstance(batch, dict):
        return {k: _first(v) for k, v in batch.items()}
    return batch[0]


def is_group(batch: Any) -> bool:
    """Whether a list or tuple holds parts of a batch, as (inputs, targets), and not one value a sample."""
    if not isinstance(batch, list | tuple):
        return False
    return any(isinstance(p, dict) or hasattr(p, "ndim") or is_group(p) for p in batch)


def map_group(function: Callable[[Any], Any], group: Any) -> Any:
    """The group with a function of each part in its place; a named tuple stays one."""
    parts = [function(part) for part in group]
    return type(group)(*parts) if hasattr(group, "_fields") else type(group)(parts)
