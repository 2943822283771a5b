from __future__ import annotations

import numpy as np
import pytest

from simscaleai.errors import UserError
from simscaleai.training.data.sampler import Blocks, EpochSampler


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


def blocks(announced: list[list[int]] | None = None, least: int = 5) -> Blocks:
    found = [] if announced is None else announced
    return Blocks([3, 4, 1, 6, 2], least, lambda shards: found.append(list(shards)))


def test_shards_are_shuffled_in_blocks() -> None:
    announced: list[list[int]] = []
    sampler = EpochSampler(16, 4, seed=1, blocks=blocks(announced))
    batches = order(sampler)
    assert sorted(i for b in batches for i in b) == list(range(16))
    assert [len(b) for b in batches] == [4, 4, 4, 4]
    # the first block: shards until there are five samples, all of which come before any other
    members = {0: range(3), 1: range(3, 7), 2: range(7, 8), 3: range(8, 14), 4: range(14, 16)}
    first = blocks().groups(announced[0])[0]
    samples = [i for shard in first for i in members[shard]]
    flat = [i for b in batches for i in b]
    assert sorted(flat[: len(samples)]) == sorted(samples) and len(samples) >= 5
    assert order(sampler, 0) == batches != order(sampler, 1)


def test_a_position_in_blocks_goes_on_in_the_middle() -> None:
    sampler = EpochSampler(16, 3, seed=2, blocks=blocks())
    whole = order(sampler, 3)
    for done in range(len(whole)):
        assert order(sampler, 3, 3 * done) == whole[done:]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_sample_once_for_any_number_of_processes(world_size: int) -> None:
    parts = [
        order(EpochSampler(16, 2, seed=4, rank=r, world_size=world_size, blocks=blocks()))
        for r in range(world_size)
    ]
    assert len({len(part) for part in parts}) == 1
    sampler = EpochSampler(16, 2, seed=4, world_size=world_size)
    counted = []
    for rank, part in enumerate(parts):
        sampler.rank = rank
        for k, batch in enumerate(part):
            counted += batch[: sampler.local_samples(k * sampler.global_batch)[0]]
    assert sorted(counted) == list(range(16))


def test_without_shuffling_blocks_are_in_order() -> None:
    batches = order(EpochSampler(16, 5, shuffle=False, blocks=blocks()))
    assert [i for batch in batches for i in batch] == list(range(16))
