"""How the missing episodes of a file are divided, and run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from simscaleai.datagen.file_task import FileTask
from simscaleai.rollout.registered import Registered


@pytest.mark.parametrize(
    ("count", "workers", "sizes"),
    [
        (7, 3, {2, 3}),
        (2, 2, {1}),
        (1, 1, {1}),
        (64, 2, {32}),
        (65, 2, {16, 17}),  # four chunks: each worker has two
        (1000, 2, {31, 32}),
    ],
)
def test_chunks_are_equal_and_each_worker_has_as_many(tmp_path, count, workers, sizes) -> None:
    job: Any = SimpleNamespace(num_envs=16)
    missing = range(3, 3 + count)
    task = FileTask(cast(Any, job), Registered(), tmp_path, missing, workers)
    chunks = [task.chunk(item) for item in range(task.count)]
    assert [index for chunk in chunks for index in chunk] == list(missing)
    assert {len(chunk) for chunk in chunks} == sizes
    assert task.count % workers == 0
