"""The figures of docs/scaling.md are those of scripts/scaling_plan.py, and their arithmetic is right.

Every row shows its arithmetic with the numbers put in; here it is read from the page, done again, and
compared with the result beside it.
"""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "scaling_plan.py"))
PLAN = SCRIPT["Plan"]()

PREFIX = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
QUANTITY = re.compile(
    r"(?P<number>\d+(?:\.\d+)?) ?(?:(?P<prefix>[kMGTP]?)(?:B/s|B|FLOP/s|FLOP|/s)(?!\w)|(?P<plain>[kMG])(?!\w)"
    r"|(?P<time>ms|s|h|\$/h|\$)(?!\w))?"
)
TIMES = {"ms": 1e-3}
ROWS = [
    (name, cells)
    for name, table in SCRIPT["tables"](PLAN).items()
    if "arithmetic" in table
    for line in table.splitlines()[2:]
    if (cells := [cell.strip() for cell in line.strip("|").split("|")])
]


def number(match: re.Match[str]) -> str:
    prefix = match["prefix"] or match["plain"] or ""
    return repr(float(match["number"]) * PREFIX[prefix] * TIMES.get(match["time"] or "", 1))


def value(text: str) -> float:
    """What a cell says, in B, FLOP and seconds (hours stay hours)."""
    code = QUANTITY.sub(number, text).replace("×", "*").replace("²", "**2")
    assert re.fullmatch(r"[\d.e+\-*/() ]+", code), f"{text!r} reads {code!r}"
    return float(eval(code, {"__builtins__": {}}))  # numbers and operators alone


@pytest.mark.parametrize(("name", "cells"), ROWS, ids=lambda x: x if isinstance(x, str) else x[0])
def test_the_arithmetic_gives_the_result(name: str, cells: list[str]) -> None:
    _, arithmetic, result = cells
    assert value(arithmetic) == pytest.approx(value(result), rel=0.005), cells


def test_the_page_has_these_figures() -> None:
    page = ROOT / "docs" / "scaling.md"
    text = page.read_text()
    assert SCRIPT["filled"](text, PLAN) == text, (
        "docs/scaling.md has other figures; run `python scripts/scaling_plan.py --write`."
    )


def test_two_gpus_exchange_each_gradient_once() -> None:
    """A ring of 2 sends half of the data twice: 2 x 1/2 x 4 bytes for a weight, at 0.7 x 450 GB/s."""
    plan = replace(PLAN, gpus=2)
    assert plan.inside_seconds == pytest.approx(4 * plan.parameters / (0.7 * 450e9))
    assert plan.between_seconds == 0
    assert replace(PLAN, gpus=1).communication_seconds == 0


def test_twice_the_gpus_take_half_the_time_to_compute() -> None:
    assert replace(PLAN, gpus=128).compute_seconds == pytest.approx(PLAN.compute_seconds / 2)
    assert replace(PLAN, mfu=0.2).compute_seconds == pytest.approx(2 * PLAN.compute_seconds)


def test_the_blocks_are_those_of_a_transformer() -> None:
    """One block of PyTorch's encoder, without biases and norms: 12 width^2 weights."""
    from torch import nn

    block = nn.TransformerEncoderLayer(64, 4, 256)
    weights = sum(p.numel() for p in block.parameters() if p.dim() == 2)
    assert replace(PLAN, layers=1, width=64).block_parameters == weights
