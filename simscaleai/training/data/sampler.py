"""The order of the samples: a pure function of (seed, epoch).

    order = EpochSampler(len(data), batch_size=256, seed=0)
    loader = DataLoader(data, batch_sampler=order)
    order.move_to(epoch=3, position=512)     # the next pass starts in the middle of epoch 3

Nothing is advanced by iterating: two passes without `move_to` give the same batches. Where a run is,
is two integers that whoever consumes the batches keeps.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from simscaleai import seeding
from simscaleai.errors import UserError


class EpochSampler(Sampler[NDArray[np.int64]]):
    """Batches of indices, arrays (B,) of int64; every index once per epoch, the last batch may be smaller.

    Args:
      num_samples: size of the dataset.
      batch_size: samples per batch and process.
      seed: decides the order of every epoch.
      shuffle: False keeps the order of the dataset.
      rank, world_size: this process takes every `world_size`-th sample of the global batch, which is
        `batch_size * world_size` consecutive samples of the order; the order itself is the same for
        any number of processes. Where the end of an epoch leaves nothing for a process, its batch is a
        sample of another one, which does not count (`local_samples`), so that all have equally many batches.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int = 0,
        *,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if num_samples < 1:
            raise UserError("The dataset has no samples to train on.")
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; it is at least 1.")
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self.position = 0

    @property
    def global_batch(self) -> int:
        """Samples of all processes together in one full batch."""
        return self.batch_size * self.world_size

    def local_samples(self, position: int) -> tuple[int, int]:
        """Samples of this process, and of all, in the batch that begins at `position`."""
        total = min(self.global_batch, self.num_samples - position)
        return len(range(self.rank, total, self.world_size)), total

    def move_to(self, epoch: int, position: int = 0) -> None:
        """Start the next pass in `epoch`, after `position` samples (of all processes) of it."""
        self.epoch, self.position = epoch, position

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return -(-self.num_samples // self.global_batch)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        order = np.arange(self.num_samples)
        if self.shuffle:
            seeding.generator(self.seed, "data-order", self.epoch).shuffle(order)
        for start in range(self.position, self.num_samples, self.global_batch):
            batch = order[start : start + self.global_batch]
            own = batch[self.rank :: self.world_size]
            yield own if len(own) else batch[:1]
