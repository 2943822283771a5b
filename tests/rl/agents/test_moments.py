"""Running moments are those of all rows together, however they came in."""

from __future__ import annotations

import torch

from simscaleai.rl.agents.moments import RunningMoments


def test_moments_of_parts_are_those_of_the_whole() -> None:
    rows = torch.randn(100, 3, generator=torch.Generator().manual_seed(0)) * 5 + 1000
    parts, other = RunningMoments(3), RunningMoments(3)
    for part in rows[:60].split([1, 0, 20, 39]):
        parts.update(part)
    other.update(rows[60:])
    parts.merge(other)
    parts.merge(RunningMoments(3))  # nothing
    found = parts.statistics()
    torch.testing.assert_close(found.mean, rows.mean(0))
    torch.testing.assert_close(found.std, rows.std(0, correction=0), rtol=1e-4, atol=0)


def test_before_the_first_row_nothing_is_changed() -> None:
    found = RunningMoments(2).statistics()
    assert found.mean.tolist() == [0, 0] and found.std.tolist() == [1, 1]
