"""Running statistics are those of all samples together, however they came in."""

from __future__ import annotations

import torch

from simscaleai.rl.agents.running_mean_std import RunningMeanStd


def test_statistics_of_parts_are_those_of_the_whole() -> None:
    samples = torch.randn(100, 3, generator=torch.Generator().manual_seed(0)) * 5 + 1000
    parts, other = RunningMeanStd(3), RunningMeanStd(3)
    for part in samples[:60].split([1, 0, 20, 39]):
        parts.update(part)
    other.update(samples[60:])
    parts.merge(other)
    parts.merge(RunningMeanStd(3))  # nothing
    found = parts.statistics()
    torch.testing.assert_close(found.mean, samples.mean(0))
    torch.testing.assert_close(found.std, samples.std(0, correction=0), rtol=1e-4, atol=0)


def test_before_the_first_sample_nothing_is_changed() -> None:
    found = RunningMeanStd(2).statistics()
    assert found.mean.tolist() == [0, 0] and found.std.tolist() == [1, 1]
