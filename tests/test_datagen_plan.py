"""The figures of docs/datasets.md are those of benchmarks/datagen_plan.py, from its last measurement."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCRIPT = runpy.run_path(str(ROOT / "benchmarks" / "datagen_plan.py"))


def test_the_page_has_what_was_measured() -> None:
    measured = json.loads(SCRIPT["RESULTS"].read_text())["measured"]
    page = SCRIPT["PAGE"].read_text()
    for name, table in SCRIPT["tables"](measured, SCRIPT["Plan"]()).items():
        assert f"<!-- measured: {name} -->\n\n{table}\n\n<!-- /measured: {name} -->" in page


def test_the_arithmetic() -> None:
    """36 s and 2 MB for 10 episodes are 1,000 core-hours and 200 GB for a million."""
    one = {"seconds": 36.0, "bytes": 2e6, "steps": 300, "episodes": 10}
    plan = SCRIPT["Plan"](episodes=1_000_000, cores=100, core_hour=0.05, gigabyte_month=0.1)
    column = SCRIPT["_column"](one, plan)
    assert column["core-hours"].endswith("= 1,000")
    assert column["time on 100 cores"].endswith("= 600 min")
    assert column["bytes"].endswith("= 200 GB")
    assert column["one shard of 1,000 episodes"] == "60 min, 200 MB"
    assert column["computing"].endswith("= 50 $")
    assert column["storage for a month"].endswith("= 20 $")
