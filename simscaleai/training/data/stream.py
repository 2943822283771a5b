"""A stream of batches that knows where it is, and divides them among processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader, DistributedSampler

from simscaleai import seeding
from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.training.data import workers
from simscaleai.training.data.batch import StoredImages, is_group, map_group
from simscaleai.training.data.sampler import EpochSampler


@dataclass(frozen=True)
class LocalBatch:
    """The part of a batch on one process.

    Attributes:
      batch: nested dicts of tensors and lists; never empty.
      samples: how many of its samples count: all of them, or none where this process only takes part because
        the others do.
      total: how many samples count in all processes together.
    """

    batch: dict[str, Any]
    samples: int
    total: int

    def micro_batches(self, size: int, processes: int) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield micro-batches of up to `size` samples, and how many samples of each count.

        Every one of `processes` processes gets equally many micro-batches of the same global batch.
        """
        # of the global batch, which all processes know, so that all take part in equally many reductions
        count = -(-self.total // (size * processes))
        if count == 1:
            yield self.batch, self.samples
            return
        for start in range(0, count * size, size):
            stop = min(start + size, self.samples)
            # a process without samples left computes one that counts as none
            rows = slice(start, stop) if start < stop else slice(0, 1)
            yield take_samples(self.batch, rows), max(stop - start, 0)


class BatchStream:
    """Endless local batches of a loader's batches; `epoch` and `position` say how far it has been consumed.

    `position` counts the samples of the epoch that have been handed out to all processes together. Setting
    both before iterating goes on from there: at once with an `EpochSampler`, by skipping batches with any
    other loader. The global RNG state is not touched in finding an order, and a
    `DataLoader(shuffle=True)` shuffles as a function of (seed, epoch) too.

    As a context manager it ends the loader's worker processes when an error leaves the block, and says in one
    sentence what went wrong in them.

    What worker processes draw at random by themselves is not repeated by a run that goes on: draw by the
    index of the sample, or in the model.

    Args:
      loader: of one process, made by `make_loader` for its rank; or any other loader of whole batches, of
        which each process then takes its samples.
      seed: decides the order of a loader that shuffles by itself.
      processes: those that divide the batches.
    """

    def __init__(
        self, loader: DataLoader[Any], seed: int = 0, processes: Processes | None = None
    ) -> None:
        self.loader = loader
        self.seed = seed
        self.processes = processes or Processes()
        self.epoch = 0
        self.position = 0
        sampler = getattr(loader, "batch_sampler", None)
        self._order = sampler if isinstance(sampler, EpochSampler) else None
        # the sampler of `make_loader` gives each process its part; others give all of it to each
        self._divided = self._order is not None and self._order.world_size > 1
        if self._divided:
            assert self._order is not None
            self._check(self._order.rank, self._order.world_size)
        elif isinstance(getattr(loader, "sampler", None), DistributedSampler):
            raise UserError(
                "A loader with a DistributedSampler loses its place when a run is resumed; leave the sampler"
                " out (each process then takes its samples), or use make_loader(rank=..., world_size=...)."
            )
        self._batches: Iterator[Any] | None = None
        workers.prepare(loader)

    def __enter__(self) -> BatchStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """After an error end the loader's processes; raise a loader's own error as one sentence."""
        if error is None:
            return
        workers.end(self.loader, self._batches)
        sentence = workers.as_sentence(error)
        if sentence is not None:
            raise sentence from error

    @property
    def shortfall(self) -> str:
        """Return a sentence if the dataset has fewer samples than a batch should have; else ""."""
        order = self._order
        if order is None or order.num_samples >= order.global_batch:
            return ""
        return (
            f"A batch is all {order.num_samples:,} samples of the dataset, fewer than"
            f" batch_size={order.global_batch:,}."
        )

    def __iter__(self) -> Iterator[LocalBatch]:
        while True:
            yield from self.rest_of_epoch()
            if self.position == 0:
                raise UserError(
                    "The training loader gives no batches; check dataset and batch_size."
                )
            self.epoch, self.position = self.epoch + 1, 0

    def rest_of_epoch(self) -> Iterator[LocalBatch]:
        """Yield the local batches that are left of the current epoch."""
        if self._order:
            self._order.move_to(self.epoch, self.position)
        # any other loader cannot start in the middle: its batches are drawn and thrown away
        skip = 0 if self._order else self.position
        first = []
        # the loader takes its order from the global generator, which a model's dropout uses too
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeding.derive_seed(self.seed, "loader", self.epoch))
            self._batches = batches = workers.start(self.loader)
            if self.position == 0:  # a loader draws its order when the first batch is asked for
                first = list(islice(batches, 1))
            while skip > 0 and (batch := next(batches, None)) is not None:
                skip -= batch_size(batch)
        for batch in chain(first, batches):
            local = self._local(batch)
            self.position += local.total
            yield local

    def _local(self, batch: dict[str, Any]) -> LocalBatch:
        if self._order is not None and self._divided:
            return LocalBatch(batch, *self._order.local_samples(self.position))
        total = batch_size(batch)
        rank, size = self.processes.rank, self.processes.size
        if size == 1:
            return LocalBatch(batch, total, total)
        samples = len(range(rank, total, size))
        # every `size`-th sample, as `EpochSampler` divides a batch
        rows = slice(rank, None, size) if samples else slice(0, 1)
        return LocalBatch(take_samples(batch, rows), samples, total)

    def _check(self, rank: int, size: int) -> None:
        if (rank, size) != (self.processes.rank, self.processes.size):
            raise UserError(
                f"The loader was made for process {rank} of {size}, and this is process"
                f" {self.processes.rank} of {self.processes.size}; make it with rank and world_size of"
                " Processes.from_environment()."
            )


def take_samples(batch: Any, rows: slice) -> Any:
    """Take some samples of every tensor and list of values in a batch; single values are of all rows."""
    if isinstance(batch, dict):
        taken = {k: take_samples(v, rows) for k, v in batch.items()}
        # `StoredImages` stays one, or its bytes would not become floats later
        return type(batch)(taken) if isinstance(batch, StoredImages) else taken
    if is_group(batch):
        return map_group(lambda part: take_samples(part, rows), batch)
    has_rows = isinstance(batch, list | tuple) or getattr(batch, "ndim", 0) > 0
    return batch[rows] if has_rows else batch


def batch_size(batch: Any) -> int:
    """Samples in a batch: the length of its first tensor with axes, or else of its first list of values.

    Raises:
      UserError: it has neither.
    """
    leaves = list(_leaves(batch))
    for kind in (
        # tensors first: a list may be a setting of the whole batch
        lambda leaf: getattr(leaf, "ndim", 0) > 0,
        lambda leaf: isinstance(leaf, list | tuple),
    ):
        for leaf in leaves:
            if kind(leaf):
                return len(leaf)
    raise UserError(
        "The training loader gives batches without a tensor that has an axis of samples; return tensors or"
        " dicts and tuples of them."
    )


def _leaves(batch: Any) -> Iterator[Any]:
    if isinstance(batch, dict) or is_group(batch):
        for part in batch.values() if isinstance(batch, dict) else batch:
            yield from _leaves(part)
    else:
        yield batch
