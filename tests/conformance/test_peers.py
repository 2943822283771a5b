"""Packages that people use our environments with, driven by the script that records it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_peers.py"
PACKAGES = ["gymnasium", "moviepy", "stable_baselines3", "torchrl", "rsl_rl", "ray"]


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_the_package_runs_our_environments(package: str) -> None:
    pytest.importorskip(package)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), package], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "| passed |" in done.stdout
