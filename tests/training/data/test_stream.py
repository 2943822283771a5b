from __future__ import annotations

import os
import signal
import time
from itertools import islice
from typing import Any, NamedTuple

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.training.data.dummy import DummyTrajectoryDataset
from simscaleai.training.data.loader import make_loader, to_device
from simscaleai.training.data.stream import BatchStream, LocalBatch, batch_size, take_samples

DATA = DummyTrajectoryDataset(20, obs_dim=3)


def loaders() -> dict[str, DataLoader[Any]]:
    return {
        "ours": make_loader(DATA, 6, seed=1),
        "plain": DataLoader(DATA, batch_size=6, shuffle=True),
        "workers": DataLoader(DATA, batch_size=6, shuffle=True, num_workers=1),
    }


def test_a_batch_larger_than_the_dataset_is_told() -> None:
    assert "all 20 samples of the dataset" in BatchStream(make_loader(DATA, 1000)).shortfall
    shared = make_loader(DATA, 16, rank=0, world_size=2)  # 32 in all
    assert "fewer than batch_size=32." in BatchStream(shared, 0, Processes(0, 2)).shortfall
    assert not BatchStream(make_loader(DATA, 20)).shortfall
    assert not BatchStream(loaders()["plain"]).shortfall


@pytest.mark.parametrize("name", ["ours", "plain", "workers"])
def test_stream_goes_on_where_it_was(name: str) -> None:
    loader = loaders()[name]
    stream = BatchStream(loader, seed=1)
    whole = [s.batch["actions"] for s in islice(stream, 9)]
    assert [len(a) for a in whole] == [6, 6, 6, 2, 6, 6, 6, 2, 6]
    assert not torch.equal(whole[0], whole[4])  # another order in the next epoch
    for done in (1, 3, 4, 6):
        first = BatchStream(loader, seed=1)
        list(islice(first, done))
        resumed = BatchStream(loader, seed=1)
        resumed.epoch, resumed.position = first.epoch, first.position
        rest = [s.batch["actions"] for s in islice(resumed, 9 - done)]
        assert all(torch.equal(a, b) for a, b in zip(whole[done:], rest, strict=True))


def test_position_counts_samples_of_all_processes() -> None:
    stream = BatchStream(make_loader(DATA, 6), processes=Processes())
    positions = [(stream.epoch, stream.position) for _ in islice(stream, 5)]
    assert positions == [(0, 6), (0, 12), (0, 18), (0, 20), (1, 6)]


@pytest.mark.parametrize("divided", [True, False], ids=["by the sampler", "by rows"])
def test_processes_share_every_batch(divided: bool) -> None:
    """20 samples in batches of 6 leave 2 for the last: of 4 processes two get nothing that counts."""
    whole = [
        s.batch["actions"] for s in islice(BatchStream(make_loader(DATA, 6, seed=3), seed=3), 5)
    ]
    shares = []
    for rank in range(4):
        if divided:
            # 6 is no multiple of 4; a loader that divides by itself has batches of 8 here
            loader = make_loader(DATA, 2, seed=3, rank=rank, world_size=4)
        else:
            loader = make_loader(DATA, 6, seed=3)
        processes = Processes(rank=rank, size=4, launched=True)
        shares.append(list(islice(BatchStream(loader, 3, processes), 5)))
    for step in range(5):
        of_all = [of_one[step] for of_one in shares]
        assert sum(s.samples for s in of_all) == of_all[0].total
        assert len({s.total for s in of_all}) == 1
        assert all(len(s.batch["actions"]) == max(s.samples, 1) for s in of_all)
        if not divided:
            assert of_all[0].total == len(whole[step])
            rows = torch.cat([s.batch["actions"][: s.samples] for s in of_all])
            assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, whole[step].tolist()))
    last = [s.samples for s in (of_one[2 if divided else 3] for of_one in shares)]
    assert last == ([1, 1, 1, 1] if divided else [1, 1, 0, 0])


def test_pieces_count_the_same_in_every_process() -> None:
    def pieces(samples: int, total: int) -> list[tuple[int, int]]:
        share = LocalBatch(
            {"x": torch.arange(max(samples, 1)), "text": ["a"] * max(samples, 1)}, samples, total
        )
        found = list(share.micro_batches(size=2, processes=2))
        assert all(len(rows["x"]) == len(rows["text"]) for rows, _ in found)
        return [(len(rows["x"]), counted) for rows, counted in found]

    assert pieces(4, 8) == [(2, 2), (2, 2)]
    assert pieces(3, 5) == [(2, 2), (1, 1)]
    assert pieces(2, 5) == [(2, 2), (1, 0)]  # the other process has a second piece
    assert pieces(1, 1) == [(1, 1)]
    assert pieces(0, 1) == [(1, 0)]


def test_loader_of_another_process_is_refused() -> None:
    loader = make_loader(DATA, 2, rank=1, world_size=2)
    with pytest.raises(UserError, match="process 1 of 2, and this is process 0 of 1"):
        BatchStream(loader)
    sampler = DistributedSampler(DATA, num_replicas=2, rank=0)
    with pytest.raises(UserError, match="DistributedSampler"):
        BatchStream(DataLoader(DATA, batch_size=2, sampler=sampler))


def test_stream_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    list(islice(BatchStream(loaders()["plain"]), 9))
    assert torch.equal(before, torch.get_rng_state())


def test_empty_loader_is_an_error() -> None:
    empty = DataLoader(TensorDataset(torch.zeros(3, 1)), batch_size=4, drop_last=True)
    with pytest.raises(UserError, match="no batches"):
        next(iter(BatchStream(empty)))


def test_workers_outlive_signals_that_go_to_all_processes() -> None:
    batches = iter(BatchStream(loaders()["workers"]))
    next(batches)
    (worker,) = torch.multiprocessing.active_children()
    for number in (signal.SIGINT, signal.SIGTERM):
        assert worker.pid is not None
        os.kill(worker.pid, number)
    time.sleep(0.1)
    assert len(list(islice(batches, 3))) == 3
    assert worker.is_alive()


class Pair(NamedTuple):
    a: torch.Tensor
    b: Any


X = torch.arange(10.0).reshape(5, 2)


@pytest.mark.parametrize(
    ("batch", "size", "taken"),
    [
        ({"observations": {"state": X}}, 5, {"observations": {"state": X[1:3]}}),
        ([torch.zeros(3)], 3, [torch.zeros(2)]),
        ((X, X[:, 0]), 5, (X[1:3], X[1:3, 0])),
        ({"name": list("abcde"), "x": X}, 5, {"name": ["b", "c"], "x": X[1:3]}),
        ({"name": "of all", "x": X}, 5, {"name": "of all", "x": X[1:3]}),
        ({"scale": 0.5, "x": X}, 5, {"scale": 0.5, "x": X[1:3]}),
        ({"scale": torch.tensor(0.5), "x": (X, list("abcde"))}, 5, None),
        (Pair(X, {"k": X}), 5, Pair(X[1:3], {"k": X[1:3]})),
        ({"words": ("a", "b")}, 2, {"words": ("b",)}),
    ],
)
def test_size_and_rows_of_batches_of_any_structure(batch: Any, size: int, taken: Any) -> None:
    assert batch_size(batch) == size
    rows = take_samples(batch, slice(1, 3))
    if taken is not None:
        assert type(rows) is type(taken) and str(rows) == str(taken)
    moved = to_device(batch, torch.device("cpu"))
    assert type(moved) is type(batch) and str(moved) == str(batch)


@pytest.mark.parametrize("batch", [{}, {"a": 1.0}, torch.tensor(1.0), "text", None])
def test_a_batch_without_samples_is_an_error(batch: Any) -> None:
    with pytest.raises(UserError, match="without a tensor that has an axis"):
        batch_size(batch)
