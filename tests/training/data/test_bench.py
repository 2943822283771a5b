from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from simscaleai.errors import MissingFileError
from simscaleai.training.data.bench import PerSampleDataset, bench_loader, measure, sample_bytes
from simscaleai.training.data.dataset import TrajectoryDataset

Make = Callable[..., Path]


@pytest.mark.parametrize("vectors_in_memory", [True, False])
@pytest.mark.parametrize("seq_len", [1, 4])
@pytest.mark.parametrize("plain", [True, False])
def test_the_other_loaders_give_the_same_samples(
    make_dataset: Make, plain_dataset: Path, plain: bool, seq_len: int, vectors_in_memory: bool
) -> None:
    path = plain_dataset if plain else make_dataset(image_size=8)
    ours = TrajectoryDataset(path, seq_len)
    theirs = PerSampleDataset(path, seq_len, vectors_in_memory)
    assert len(theirs) == len(ours) == 25
    for i in range(25):
        sample, expected = theirs[i], ours[i]
        expected["observations"].pop("state")
        assert sample.keys() == expected.keys()
        pairs = [*expected["observations"].items()]
        assert sample["observations"].keys() == dict(pairs).keys()
        for key, value in pairs:
            torch.testing.assert_close(sample["observations"][key], value)
        assert torch.equal(sample["actions"], expected["actions"])
        assert seq_len == 1 or torch.equal(sample["mask"], expected["mask"])


def test_every_loader_is_measured(make_dataset: Make) -> None:
    speeds = bench_loader(make_dataset(image_size=8), batch_size=10, seconds=0.1)
    assert [s.name for s in speeds] == [
        "simscaleai, from memory",
        "simscaleai, from the file",
        "per sample, vectors kept",
        "per sample, from HDF5",
    ]
    each = 8 * 8 * 3 + 4 * (7 + 4)
    for speed in speeds:
        assert speed.samples_per_second > 0 and speed.first_batch_seconds > 0
        expected = speed.samples_per_second * each / 1e6
        assert speed.megabytes_per_second == pytest.approx(expected)
    names = [s.name for s in bench_loader(make_dataset("state.h5"), seconds=0.1)]
    assert names == [speeds[0].name, speeds[2].name, speeds[3].name]
    with pytest.raises(MissingFileError):
        bench_loader("absent.h5")


def test_sample_bytes_count_windows(make_dataset: Make) -> None:
    data = TrajectoryDataset(make_dataset(image_size=8), seq_len=5)
    assert sample_bytes(data) == 8 * 8 * 3 + 4 * (7 + 5 * 4)


def test_measure_counts_what_comes_after_the_first_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))  # a second for each batch
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    batches = [{"actions": torch.zeros(n, 1)} for n in (8, 8, 4)]
    speed, first = measure(batches, seconds=4)
    assert first == 1.0
    assert speed == (8 + 4 + 8 + 8) / 4  # two epochs, less the first batch
