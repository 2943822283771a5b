"""Whatever is killed, at whatever moment, comes to the same result as undisturbed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.reliability import killed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")


@pytest.mark.slow
@pytest.mark.parametrize("kind", killed.RUNS)
def test_killed_twenty_times(tmp_path: Path, kind: str) -> None:
    if kind == "sweep":
        pytest.importorskip("hydra")
    whole, found = killed.kill_until_done(kind, tmp_path, 20, seed=0)
    assert set(found) == {whole}
