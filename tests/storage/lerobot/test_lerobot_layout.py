"""Features and columns of a LeRobot dataset."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from simscaleai.storage.lerobot.feature_statistics import FeatureStatistics
from simscaleai.storage.lerobot.frame_images import decode_images, encode_images
from simscaleai.storage.lerobot.layout import Feature, from_arrow, place, to_arrow


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool", "uint8"])
def test_a_column_gives_its_array_back(shape: tuple[int, ...], dtype: str) -> None:
    values = (np.random.default_rng(0).normal(size=(5, *shape)) * 10).astype(dtype)
    column = pa.chunked_array([to_arrow(values)])
    assert np.array_equal(from_arrow(column, Feature(dtype, shape)), values)


def test_a_column_of_another_shape_or_type_is_refused() -> None:
    column = pa.chunked_array([to_arrow(np.zeros((5, 3), np.float32))])
    with pytest.raises(ValueError, match=r"not \[4\]"):
        from_arrow(column, Feature("float32", (4,)))
    with pytest.raises(ValueError, match=r"float32, and info\.json says float64"):
        from_arrow(column, Feature("float64", (3,)))
    with pytest.raises(ValueError, match="missing values"):
        from_arrow(pa.chunked_array([pa.array([1.0, None])]), Feature("float64", (1,)))


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "object"},
        {"shape": "3"},
        {"shape": [-1]},
        {"shape": [True]},
        {"shape": [2**30]},
        {"shape": [1] * 9},
    ],
)
def test_a_feature_that_cannot_be_is_refused(change: dict) -> None:
    with pytest.raises(ValueError):
        Feature.from_dict({"dtype": "float32", "shape": [3], "names": None, **change})


def test_names_may_be_grouped() -> None:
    grouped = {"dtype": "float32", "shape": [2], "names": {"motors": ["a", "b"]}}
    assert Feature.from_dict(grouped).names == ["a", "b"]


def test_a_folder_of_files_holds_a_thousand() -> None:
    assert place(999) == {"chunk_index": 0, "file_index": 999}
    assert place(1000) == {"chunk_index": 1, "file_index": 0}


def test_images_are_lossless_and_their_size_is_checked() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), dtype=np.uint8)
    column = pa.chunked_array([encode_images(frames)])
    assert np.array_equal(decode_images(column, (6, 8, 3)), frames)
    with pytest.raises(ValueError, match="an image of 6 x 8 pixels"):
        decode_images(column, (8, 6, 3))
    outside = pa.chunked_array([pa.array([{"bytes": None, "path": "/etc/passwd"}])])
    with pytest.raises(ValueError, match="not in the file itself"):
        decode_images(outside, (6, 8, 3))


def test_statistics_are_those_of_all_steps() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(n, 2)) for n in (5, 3)]
    statistics = FeatureStatistics(8)
    for part in parts:
        statistics.add(part)
    values, total = np.concatenate(parts), statistics.total()
    assert total["count"] == [8]
    np.testing.assert_allclose(total["mean"], values.mean(0))
    np.testing.assert_allclose(total["std"], values.std(0))
    np.testing.assert_allclose(total["q90"], np.quantile(values, 0.9, axis=0))


def test_quantiles_of_many_steps_are_of_every_kth() -> None:
    statistics = FeatureStatistics(300_000)  # every third
    steps = np.arange(300_000, dtype=np.float64)
    for part in np.split(steps, [100_001, 100_003]):
        statistics.add(part[:, None])
    # exactly the multiples of three: their median is 149,998.5
    assert statistics.total()["q50"] == [149_998.5]


def test_images_count_in_0_to_1_per_channel() -> None:
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[1, ..., 0] = 255
    found = FeatureStatistics(2, is_image=True).add(frames)
    assert found["mean"] == [[[0.5]], [[0.0]], [[0.0]]]
    assert found["count"] == [2]
