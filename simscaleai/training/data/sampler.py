"""The order of the samples: a pure function of (seed, epoch).

    order = EpochSampler(len(data), batch_size=256, seed=0)
    loader = DataLoader(data, batch_sampler=order)
    order.move_to(epoch=3, position=512)     # the next pass starts in the middle of epoch 3

Nothing is advanced by iterating: two passes without `move_to` give the same batches. Where a run is,
is two integers that whoever consumes the batches keeps.

The samples of a folder of shards are shuffled in blocks: the shards are permuted anew in every epoch and
taken together in blocks of at least `Blocks.least` samples, which are shuffled as a whole. So a dataset
that is larger than the memory is read shard by shard, and the order still depends on nothing but the data,
the seed and the epoch: not on the memory of the machine, nor on the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from simscaleai import seeding
from simscaleai.errors import UserError


@dataclass(frozen=True)
class Blocks:
    """How the samples of a dataset lie in shards.

    Attributes:
      sizes: samples of each shard, in order.
      least: samples of a block; it has so many shards that there are at least as many.
      announce: called with the shards of the next two blocks when a block begins.
    """

    sizes: Sequence[int]
    least: int
    announce: Callable[[Sequence[int]], None]

    def groups(self, order: Sequence[int]) -> list[list[int]]:
        """Divide shards in the given order into blocks."""
        found: list[list[int]] = [[]]
        samples = 0
        for shard in order:
            if samples >= self.least:
                found.append([])
                samples = 0
            found[-1].append(shard)
            samples += self.sizes[shard]
        return found


class EpochSampler(Sampler[NDArray[np.int64]]):
    """Batches of indices, arrays (B,) of int64; every index once per epoch, the last batch may be smaller.

    Args:
      num_samples: size of the dataset.
      batch_size: samples per batch and process.
      seed: decides the order of every epoch.
      shuffle: False keeps the order of the dataset.
      blocks: of samples that lie in shards; None shuffles all samples as one.
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
        blocks: Blocks | None = None,
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
        self.blocks = blocks
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
        pending = np.zeros(0, np.int64)  # samples of the order that no batch holds yet
        for block in self._blocks_from(self.position):
            pending = np.concatenate([pending, block])
            # what is left of a block begins the first batch of the next one
            whole = len(pending) - len(pending) % self.global_batch
            for start in range(0, whole, self.global_batch):
                yield self._local(pending[start : start + self.global_batch])
            pending = pending[whole:]
        if len(pending):
            yield self._local(pending)

    def _local(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the part of a global batch on this process."""
        # interleaved: any number of processes gives the same global batches in the same order
        own = batch[self.rank :: self.world_size]
        return own if len(own) else batch[:1]

    def _blocks_from(self, position: int) -> Iterator[NDArray[np.int64]]:
        """Yield the order of this epoch from `position` on, in parts."""
        rng = seeding.generator(self.seed, "data-order", self.epoch)
        if self.blocks is None:
            order = np.arange(self.num_samples)
            if self.shuffle:
                # all of the order, whatever `position` is: it must not depend on where a run resumes
                rng.shuffle(order)
            yield order[position:]
            return
        sizes = np.asarray(self.blocks.sizes)
        stops = np.cumsum(sizes)
        shards = rng.permutation(len(sizes)) if self.shuffle else np.arange(len(sizes))
        groups = self.blocks.groups(shards.tolist())
        block_seed = seeding.derive_seed(self.seed, "data-order", self.epoch)
        for number, group in enumerate(groups):
            count = int(sizes[group].sum())
            # a block that was consumed before the run stopped is not read again
            if position >= count:
                position -= count
                continue
            # this block and the next, which is read while this one is used
            self.blocks.announce([j for part in groups[number : number + 2] for j in part])
            block = np.concatenate([np.arange(stops[j] - sizes[j], stops[j]) for j in group])
            if self.shuffle:  # with a generator of its own: a resumed run skips the blocks before
                seeding.generator(block_seed, "block", number).shuffle(block)
            yield block[position:]
            position = 0
