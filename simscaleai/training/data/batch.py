"""Batches that a dataset puts together itself.

A dataset with `__getitems__` is handed all indices of a batch at once. What ours returns is a list of
one `Batch`, already collated; PyTorch's default collation is told to take it as it is, and so a plain
`DataLoader(dataset, batch_size=32)` runs at the same speed as ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

Indices = Sequence[int] | NDArray[Any] | torch.Tensor


class Batch(dict[str, Any]):
    """{"observations": {key: (B, ...)}, "actions": (B, ...), ...}."""


def _unwrap(batch: list[Batch], *, collate_fn_map: Any = None) -> dict[str, Any]:
    (only,) = batch
    return dict(only)


default_collate_fn_map[Batch] = _unwrap


class BatchedDataset(Dataset[dict[str, Any]]):
    """A map-style dataset that is defined by `read`, a whole batch at a time.

    With a `transform`, a function of one sample, samples are read one by one.
    """

    transform: Any = None

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, indices: torch.Tensor) -> dict[str, Any]:
        """The samples at `indices` (B,) int64, each leaf with a leading axis B."""
        raise NotImplementedError

    def __getitem__(self, idx: int) -> dict[str, Any]:
        if not -len(self) <= idx < len(self):
            raise IndexError(f"index {idx} of {len(self)} samples")
        sample = _first(self.read(torch.tensor([idx % len(self)])))
        return sample if self.transform is None else self.transform(sample)

    def __getitems__(self, indices: Indices) -> list[Any]:
        if self.transform is not None:
            return [self[int(i)] for i in indices]
        return [Batch(self.read(torch.as_tensor(indices)))]

    @staticmethod
    def collate(samples: Any) -> dict[str, Any]:
        """One batch from what `__getitems__` gave, or from single samples."""
        return samples if isinstance(samples, dict) else default_collate(list(samples))


def _first(batch: Any) -> Any:
    """The first row of every leaf."""
    if isinstance(batch, dict):
        return {k: _first(v) for k, v in batch.items()}
    return batch[0]
