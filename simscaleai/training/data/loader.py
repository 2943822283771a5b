"""From datasets to a stream of batches that knows where it is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import torch
from torch.utils.data import DataLoader

from simscaleai import seeding
from simscaleai.errors import UserError
from simscaleai.training.data.dataset import DummyTrajectoryDataset, TrajectoryDataset
from simscaleai.training.data.sampler import EpochSampler


def make_loader(
    dataset: TrajectoryDataset | DummyTrajectoryDataset,
    batch_size: int,
    seed: int = 0,
    *,
    num_workers: int = 0,
    shuffle: bool = True,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """A loader over whole batches, in an order that is a function of (seed, epoch).

    Worker processes are used for data that has to be read and decoded only: handing over a batch that
    lies in memory takes a process longer than cutting it out.
    """
    workers = 0 if dataset.in_memory else num_workers
    order: Any = EpochSampler(len(dataset), batch_size, seed, shuffle=shuffle)
    return DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
    )


class BatchStream:
    """Endless batches of a loader; `epoch` and `position` say how far it has been consumed.

    `position` counts the samples of the epoch that have been handed out. Setting both before
    iterating goes on from there: at once with an `EpochSampler`, by skipping batches with any other
    loader. The global random state is not touched in finding an order, and a
    `DataLoader(shuffle=True)` shuffles as a function of (seed, epoch) too.
    """

    def __init__(self, loader: DataLoader[Any], seed: int = 0) -> None:
        self.loader = loader
        self.seed = seed
        self.epoch = 0
        self.position = 0

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from self._rest_of_epoch()
            if self.position == 0:
                raise UserError(
                    "The training loader gives no batches; check dataset and batch_size."
                )
            self.epoch, self.position = self.epoch + 1, 0

    def _rest_of_epoch(self) -> Iterator[Any]:
        sampler = getattr(self.loader, "batch_sampler", None)
        order = sampler if isinstance(sampler, EpochSampler) else None
        if order:
            order.move_to(self.epoch, self.position)
        skip = 0 if order else self.position
        first = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeding.derive_seed(self.seed, "loader", self.epoch))
            batches = iter(self.loader)
            if self.position == 0:  # a loader draws its order when the first batch is asked for
                first = list(islice(batches, 1))
            while skip > 0 and (batch := next(batches, None)) is not None:
                skip -= batch_size(batch)
        for batch in chain(first, batches):
            self.position += order.global_batch if order else batch_size(batch)
            yield batch


def batch_size(batch: Any) -> int:
    """Samples in a batch: the length of its first leaf."""
    if isinstance(batch, dict):
        return batch_size(next(iter(batch.values())))
    return len(batch)


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on `device`; other leaves as they are."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {k: to_device(v, device) for k, v in batch.items()}
    return batch
