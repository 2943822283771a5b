from __future__ import annotations

from typing import Any

import pytest

from simscaleai.training.data import frames
from simscaleai.training.data.frames import fits

MIB = 2**20


class Reader:
    def __init__(self, mib: float) -> None:
        self.nbytes = int(mib * MIB)


def room(*mib: float, cache_mb: float | None = None) -> bool:
    readers: Any = [Reader(m) for m in mib]
    return fits(readers, cache_mb)


def test_all_cameras_together_must_fit() -> None:
    assert room(60, 40, cache_mb=100)
    assert not room(60, 41, cache_mb=100)
    assert not room(0.1, cache_mb=0)
    assert room(cache_mb=0)  # nothing to keep


def test_default_is_a_quarter_of_free_memory_and_at_most_2_gib(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(frames, "free_memory", lambda: 4000 * MIB)
    assert room(1000) and not room(1001)
    monkeypatch.setattr(frames, "free_memory", lambda: 10**6 * MIB)
    assert room(2048) and not room(2049)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # processes on this machine share it
    assert room(512) and not room(513)
