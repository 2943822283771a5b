"""Two processes learn as one agent from episodes of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.mark.slow
def test_two_processes_are_one_agent(launch: Callable[..., Any], tmp_path: Path) -> None:
    one, other = launch(2, SCRIPT, tmp_path)
    for key in ("digest", "lr", "timesteps", "count", "digest_again"):
        assert one[key] == other[key], key
    # 3 updates of 8 steps of 4 environments in 2 processes
    assert one["timesteps"] == one["count"] == 3 * 8 * 4 * 2
    # each has seen something else, also after both have gone on from the one file
    assert one["reward"] != other["reward"]
    assert one["reward_again"] != other["reward_again"]
    assert one["digest"] != one["digest_again"]
