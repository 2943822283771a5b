"""Parts that something has damaged: each is read, or refused in a sentence that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simscaleai.datagen.shards import read_shard, read_summaries, write_shard
from simscaleai.errors import UserError
from simscaleai.storage.episode import Episode


@pytest.fixture
def part(tmp_path: Path) -> Path:
    episodes = [
        Episode(
            obs={"x": np.ones((n, 2), np.float32)},
            actions=np.zeros((n, 4), np.float32),
            rewards=np.zeros(n, np.float32),
            dones=np.arange(n) == n - 1,
            states=np.zeros((n, 5)),
            index=n,
        )
        for n in (2, 3)
    ]
    write_shard(tmp_path, episodes, [True, True])
    (path,) = tmp_path.glob("*.npz")
    return path


def test_flipped_bits_and_missing_ends(part: Path) -> None:
    content = part.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for case in range(150):
        data = bytearray(content)
        if case % 10 == 0:
            del data[int(rng.integers(len(data))) :]
        else:
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        part.write_bytes(bytes(data))
        try:
            assert len(read_summaries(part)) == len(list(read_shard(part))) == 2
        except UserError as error:
            refused += 1
            assert f"{part.name} is damaged" in str(error) and "\n" not in str(error)
    assert refused > 100


@pytest.mark.parametrize(
    "change",
    [
        {"length": 7},
        {"length": "2"},
        {"index": -1},
        {"seed": 1.5},
        {"surprise": 1},
    ],
    ids=str,
)
def test_lists_that_do_not_fit(part: Path, change: dict[str, Any]) -> None:
    with np.load(part) as columns:
        found = dict(columns)
    listed = json.loads(str(found["episodes"]))
    listed[0] |= change
    with part.open("wb") as file:
        np.savez(file, **(found | {"episodes": np.array(json.dumps(listed))}))
    with pytest.raises(UserError, match="is damaged"):
        list(read_shard(part))


def test_a_column_less(part: Path) -> None:
    with np.load(part) as columns:
        found = {key: columns[key] for key in columns.files if key != "states"}
    with part.open("wb") as file:
        np.savez(file, **found)
    with pytest.raises(UserError, match="is damaged"):
        list(read_shard(part))
