"""From datasets to loaders of whole batches."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader

from simscaleai.convert import converted
from simscaleai.tensor_types import Batch
from simscaleai.training.data.batch import StoredImages, as_floats, collate, is_group, map_group
from simscaleai.training.data.dataset import DummyTrajectoryDataset, TrajectoryDataset
from simscaleai.training.data.sampler import EpochSampler


@converted
def make_loader(
    dataset: TrajectoryDataset | DummyTrajectoryDataset,
    batch_size: int,
    seed: int = 0,
    *,
    num_workers: int = 0,
    shuffle: bool = True,
    pin_memory: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader[Batch]:
    """A loader over whole batches, in an order that is a function of (seed, epoch).

    Of `world_size` processes, the one of `rank` gets its part of every global batch.

    Worker processes are used for data that has to be read and decoded only: handing over a batch that
    lies in memory takes a process longer than cutting it out. Images come as bytes; `to_device` makes
    them floats.
    """
    # Drawing takes all cores by itself, and its threads do not survive the fork of a worker.
    draws = isinstance(dataset, TrajectoryDataset) and dataset.draws
    workers = 0 if dataset.in_memory or draws else num_workers
    # a whole batch of indices at a time, arrays, where PyTorch's type asks for lists
    order: Any = EpochSampler(
        len(dataset),
        batch_size,
        seed,
        shuffle=shuffle,
        rank=rank,
        world_size=world_size,
        blocks=dataset.blocks,
    )
    return DataLoader(
        # images travel as bytes, a quarter of the size, and become floats on the device
        dataset.as_stored(),
        batch_sampler=order,
        collate_fn=collate,
        num_workers=workers,
        # starting workers takes seconds, which would pass again in every epoch
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
    )


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on `device`, and images that came as bytes as floats."""
    if isinstance(batch, torch.Tensor):
        # from pinned memory the copy runs while the CPU goes on; otherwise the flag does nothing
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        moved = {k: to_device(v, device) for k, v in batch.items()}
        return as_floats(moved) if isinstance(batch, StoredImages) else moved
    if is_group(batch):
        return map_group(lambda part: to_device(part, device), batch)
    return batch
