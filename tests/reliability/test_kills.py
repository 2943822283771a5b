"""Whatever is killed, at whatever moment, comes to the same result as undisturbed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

_spec = importlib.util.spec_from_file_location("killed", Path(__file__).with_name("killed.py"))
assert _spec is not None and _spec.loader is not None
killed: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(killed)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")


@pytest.mark.slow
@pytest.mark.parametrize("kind", killed.RUNS)
def test_killed_twenty_times(tmp_path: Path, kind: str) -> None:
    if kind == "sweep":
        pytest.importorskip("hydra")
    whole, found = killed.kill_until_done(kind, tmp_path, 20, seed=0)
    assert set(found) == {whole}
