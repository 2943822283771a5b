from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from simscaleai.errors import UserError
from simscaleai.training.data.dataset import DummyTrajectoryDataset
from simscaleai.training.data.loader import BatchStream, batch_size, make_loader


def loaders() -> dict[str, DataLoader[Any]]:
    data = DummyTrajectoryDataset(20, obs_dim=3)
    return {
        "ours": make_loader(data, 6, seed=1),
        "plain": DataLoader(data, batch_size=6, shuffle=True),
        "workers": DataLoader(data, batch_size=6, shuffle=True, num_workers=1),
    }


@pytest.mark.parametrize("name", ["ours", "plain", "workers"])
def test_stream_goes_on_where_it_was(name: str) -> None:
    loader = loaders()[name]
    stream = BatchStream(loader, seed=1)
    whole = [b["actions"] for b in islice(stream, 9)]
    assert [len(a) for a in whole] == [6, 6, 6, 2, 6, 6, 6, 2, 6]
    assert not torch.equal(whole[0], whole[4])  # another order in the next epoch
    for done in (1, 3, 4, 6):
        first = BatchStream(loader, seed=1)
        list(islice(first, done))
        resumed = BatchStream(loader, seed=1)
        resumed.epoch, resumed.position = first.epoch, first.position
        rest = [b["actions"] for b in islice(resumed, 9 - done)]
        assert all(torch.equal(a, b) for a, b in zip(whole[done:], rest, strict=True))


def test_stream_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    list(islice(BatchStream(loaders()["plain"]), 9))
    assert torch.equal(before, torch.get_rng_state())


def test_memory_needs_no_workers() -> None:
    assert make_loader(DummyTrajectoryDataset(20), 6, num_workers=4).num_workers == 0


def test_empty_loader_is_an_error() -> None:
    empty = DataLoader(TensorDataset(torch.zeros(3, 1)), batch_size=4, drop_last=True)
    with pytest.raises(UserError, match="no batches"):
        next(iter(BatchStream(empty)))


def test_batch_size() -> None:
    assert batch_size({"observations": {"state": torch.zeros(5, 2)}}) == 5
    assert batch_size([torch.zeros(3)]) == 1
