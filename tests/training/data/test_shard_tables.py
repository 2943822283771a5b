"""Tables of shards in a ring of memory."""

from __future__ import annotations

import numpy as np
import torch

from simscaleai.observations import ObsSpec
from simscaleai.training.data.shard_tables import ShardTables
from simscaleai.training.data.vector_layout import VectorLayout

SIZES = np.array([4, 3, 0, 5, 2])
LAYOUT = VectorLayout(ObsSpec({"x": (1,)}, {"x": "float32"}), {}, 2)


def tables(shard: int) -> dict[str, torch.Tensor]:
    """Step t of shard j has the state 10 j + t."""
    state = 10.0 * shard + torch.arange(float(SIZES[shard]))
    return {"state": state[:, None], "actions": torch.zeros(len(state), 2)}


def taken(ring: ShardTables, shards: list[int], steps: list[int]) -> list[float]:
    rows = ring.rows(np.array(shards, int), np.array(steps, int))
    return ring.take("state", rows)[:, 0].tolist()


def test_steps_of_several_shards_are_taken_in_any_order():
    ring = ShardTables(LAYOUT, SIZES, rows=14)
    for shard in (3, 0, 1, 4):
        ring.put(shard, tables(shard))
    assert not ring.missing(np.arange(5)).any()
    assert taken(ring, [0, 3, 1, 3, 4], [3, 0, 2, 4, 1]) == [3, 30, 12, 34, 41]


def test_the_oldest_shards_make_room():
    ring = ShardTables(LAYOUT, SIZES, rows=9)
    ring.put(0, tables(0))  # rows 0 to 3
    ring.put(1, tables(1))  # rows 4 to 6
    assert ring.missing(np.arange(5)).tolist() == [False, False, False, True, True]
    ring.put(3, tables(3))  # two rows are too few for 5 steps: rows 0 to 4
    assert ring.missing(np.arange(5)).tolist() == [True, True, False, False, True]
    ring.put(4, tables(4))  # rows 5 and 6
    assert taken(ring, [4, 3, 4], [1, 2, 0]) == [41, 32, 40]
    ring.put(0, tables(0))  # again at the start, over shard 3
    assert ring.missing(np.arange(5)).tolist() == [False, True, False, True, False]
    assert taken(ring, [0, 4], [3, 1]) == [3, 41]


def test_any_sequence_of_shards_keeps_what_it_says():
    rng = np.random.default_rng(0)
    ring = ShardTables(LAYOUT, SIZES, rows=11)
    for shard in rng.integers(len(SIZES), size=200).tolist():
        if ring.missing(np.array([shard]))[0]:
            ring.put(shard, tables(shard))
        assert not ring.missing(np.array([shard]))[0]
        for there in np.flatnonzero(~ring.missing(np.arange(len(SIZES)))).tolist():
            steps = list(range(SIZES[there]))
            assert taken(ring, [there] * len(steps), steps) == tables(there)["state"][:, 0].tolist()
