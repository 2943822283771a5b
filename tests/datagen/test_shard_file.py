"""The part of a dataset that one shard has."""

from __future__ import annotations

import pytest

from simscaleai.datagen.shard_file import split_part


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        ({"train": [0, 2, 4, 6, 7], "valid": [1, 3, 5]}, {"train": [1], "valid": [0, 2]}),
        ({"train": [0, 1, 2, 6, 7], "valid": [3, 4, 5]}, {"train": [], "valid": [0, 1, 2]}),
        # a file may have one mask alone
        ({"train": [0, 1, 2, 3, 4, 5, 6, 7]}, {"train": [0, 1, 2], "valid": []}),
    ],
)
def test_a_split_is_cut_by_positions_in_the_shard(whole: dict, expected: dict) -> None:
    assert split_part(whole, range(3, 6)) == expected
