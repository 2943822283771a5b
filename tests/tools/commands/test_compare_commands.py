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
    code, out, err = evaluate.command("compare", "a")
    assert code == 2 and out == "" and "at least two policies" in err


def test_stress(evaluate: Any) -> None:
    words = ("stress", "a", "--n-episodes", "2", "--axes", "action-noise,robot-start")
    code, out, _ = evaluate.command(*words, "--output", "there")
    assert code == 0 and "control" in out and "never_reached: 2" in out
    assert {p.name for p in Path("there").iterdir()} >= {"stress.json"}
    code, _, err = evaluate.command("stress", "a", "--axes", "mass", "--levels", "1,x")
    assert code == 2 and "A level is 'x'" in err
