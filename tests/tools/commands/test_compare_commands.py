"""What `simscale compare` and `stress` print and write."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_compare(evaluate: Any) -> None:
    # an untrained policy against itself: never a difference
    code, out, _ = evaluate.command("compare", "a", "a", "--min-difference", "0.2")
    assert code == 0 and "SAME WITHIN 20 %" in out and "p = 1" in out
    assert "Results: runs/compare/a-1_a-2" in out
    assert Path("runs/compare/a-1_a-2/comparison.json").exists()
    page = Path("runs/compare/a-1_a-2/report.html").read_text()
    assert "a-2: SAME WITHIN 20 % after 22 episodes" in page
    command = "simscale compare runs/a/final.pt runs/a/final.pt --min-difference 0.2"
    assert f"<pre>{command}</pre>" in page
    code, out, err = evaluate.command("compare", "a")
    assert code == 2 and out == "" and "at least two policies" in err


def test_stress(evaluate: Any) -> None:
    words = ("stress", "a", "--n-episodes", "2", "--axes", "action-noise,robot-start")
    code, out, _ = evaluate.command(*words, "--output", "there")
    assert code == 0 and "control" in out and "never_reached: 2" in out
    assert {p.name for p in Path("there").iterdir()} >= {"stress.json", "report.html"}
    page = Path("there/report.html").read_text()
    # an untrained policy has nothing to lose
    assert "No drop was found on 2 axes" in page and "(Bonferroni)" in page
    assert "--axes action-noise,robot-start --n-episodes 2 --output there</pre>" in page
    code, _, err = evaluate.command("stress", "a", "--axes", "mass", "--levels", "1,x")
    assert code == 2 and "A level is 'x'" in err
