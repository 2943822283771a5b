"""Every sample exactly once in an epoch, for any number of processes and workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from simscaleai.training.data.dataset import TrajectoryDataset
from simscaleai.training.data.loader import make_loader, to_device

Make = Callable[..., Path]


@pytest.mark.parametrize("cache_mb", [None, 0])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_every_sample_once(
    make_dataset: Make, world_size: int, workers: int, cache_mb: float | None
) -> None:
    path = make_dataset(image_size=8)
    data = TrajectoryDataset(path, cache_mb=cache_mb)
    whole = TrajectoryDataset(path, cache_mb=0)
    expected = whole.collate([whole[i] for i in range(25)])["observations"]
    position = {tuple(row.tolist()): i for i, row in enumerate(expected["state"])}
    assert len(position) == 25
    seen: list[int] = []
    for rank in range(world_size):
        loader = make_loader(data, 3, seed=7, num_workers=workers, rank=rank, world_size=world_size)
        assert loader.num_workers == (workers if cache_mb == 0 else 0)
        order = loader.batch_sampler
        order.move_to(epoch=2)
        done = 0
        for stored in loader:
            obs = to_device(stored, torch.device("cpu"))["observations"]
            own, total = order.local_samples(done)
            rows = [position[tuple(row.tolist())] for row in obs["state"]][:own]
            assert torch.equal(obs["image"][:own], expected["image"][rows])
            seen += rows
            done += total
        assert done == 25
    assert sorted(seen) == list(range(25))
