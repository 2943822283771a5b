from __future__ import annotations

import json

import numpy as np
import pytest

from simscaleai.storage.array_statistics import ArrayStatistics


def test_parts_merge_to_the_whole() -> None:
    # {1, 3} and {8}: mean (1 + 3 + 8) / 3 = 4, variance (9 + 1 + 16) / 3
    parts = [ArrayStatistics.of(np.array([[1.0], [3.0]])), ArrayStatistics.of(np.array([[8.0]]))]
    merged = ArrayStatistics.merge(parts)
    assert merged.count == 3
    np.testing.assert_allclose(merged.mean, [4])
    np.testing.assert_allclose(merged.variance, [26 / 3])
    assert (merged.low, merged.high) == (1, 8)
    values = np.random.default_rng(0).normal(50, 2, (1000, 2, 3))
    merged = ArrayStatistics.merge(
        [ArrayStatistics.of(part) for part in np.split(values, [10, 700])]
    )
    np.testing.assert_allclose(merged.mean, values.reshape(1000, 6).mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(merged.variance, values.reshape(1000, 6).var(axis=0), rtol=1e-12)


def test_json_gives_back_the_same_numbers() -> None:
    one = ArrayStatistics.of(np.random.default_rng(1).normal(size=(7, 3)))
    two = ArrayStatistics.from_dict(json.loads(json.dumps(one.to_dict())))
    for name in ("mean", "variance", "low", "high"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    for change in ({"count": 0}, {"mean": [1.0]}, {"variance": [float("nan")] * 3}):
        with pytest.raises(ValueError):
            ArrayStatistics.from_dict({**one.to_dict(), **change})
