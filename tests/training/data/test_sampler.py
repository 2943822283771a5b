from __future__ import annotations

import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.training.data.sampler import EpochSampler


def order(sampler: EpochSampler, epoch: int = 0, position: int = 0) -> list[list[int]]:
    sampler.move_to(epoch, position)
    return [batch.tolist() for batch in sampler]


def test_every_sample_once_per_epoch() -> None:
    batches = order(EpochSampler(10, 4))
    assert [len(b) for b in batches] == [4, 4, 2]
    assert sorted(i for b in batches for i in b) == list(range(10))
    assert len(EpochSampler(10, 4)) == 3


def test_order_is_a_function_of_seed_and_epoch() -> None:
    sampler = EpochSampler(100, 10, seed=3)
    first = order(sampler, 0)
    assert order(sampler, 1) != first
    assert order(sampler, 0) == first == order(EpochSampler(100, 10, seed=3), 0)
    assert order(EpochSampler(100, 10, seed=4), 0) != first


def test_position_goes_on_in_the_middle() -> None:
    sampler = EpochSampler(10, 4, seed=1)
    assert order(sampler, 2, 8) == order(sampler, 2)[2:]
    assert order(sampler, 2, 10) == []


def test_shards_partition_each_global_batch() -> None:
    whole = order(EpochSampler(24, 6, seed=5))
    shards = [order(EpochSampler(24, 3, seed=5, rank=r, world_size=2)) for r in (0, 1)]
    for batch, a, b in zip(whole, *shards, strict=True):
        assert sorted(batch) == sorted(a + b)
        assert len(a) == len(b) == 3


def test_no_shuffle_keeps_the_order() -> None:
    assert order(EpochSampler(5, 2, shuffle=False), 7) == [[0, 1], [2, 3], [4]]


def test_global_random_state_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    order(EpochSampler(100, 10))
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_nothing_to_sample_is_an_error() -> None:
    with pytest.raises(UserError, match="no samples"):
        EpochSampler(0, 4)
    with pytest.raises(UserError, match="batch_size"):
        EpochSampler(4, 0)
