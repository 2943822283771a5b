"""What a process keeps between the items of a task."""

from __future__ import annotations

import pytest

from simscaleai.executors.kept import Kept


def test_one_value_is_kept_and_closed_for_the_next_key() -> None:
    events: list[str] = []

    def make(key: list[int]) -> str:  # keys need not be hashable
        events.append(f"make {key}")
        return str(key)

    kept = Kept(make, lambda value: events.append(f"close {value}"))
    kept.close()  # of nothing
    assert kept.get([1]) == kept.get([1]) == "[1]"
    assert kept.get([2]) == "[2]"
    kept.close()
    kept.close()
    assert events == ["make [1]", "close [1]", "make [2]", "close [2]"]
    assert kept.get([2]) == "[2]" and events[-1] == "make [2]"  # anew


def test_after_an_error_there_is_nothing_to_close() -> None:
    closed: list[int] = []

    def make(key: int) -> int:
        if key < 0:
            raise ValueError(key)
        return key

    kept = Kept(make, closed.append)
    kept.get(1)
    with pytest.raises(ValueError, match="-1"):
        kept.get(-1)
    kept.close()
    assert closed == [1]
