"""The page of a dataset: episodes that play, and filters that need no script."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from simscaleai.datagen import generate_dataset
from simscaleai.errors import MissingPackageError
from simscaleai.tools.report import dataset_page
from simscaleai.tools.report.dataset_page import choose, write_dataset_page
from simscaleai.tools.report.report_page import Browser, Card, Report, write_report

EVIL = '</style><script>alert(1)</script>"><img src=x onerror=alert(2)>'


def source(outcomes: list[bool | None]) -> Any:
    episodes = [SimpleNamespace(success=outcome, length=3) for outcome in outcomes]
    return cast(
        Any, SimpleNamespace(episodes=episodes, split=lambda name: list(range(len(episodes))))
    )


def test_failures_are_shown_and_successes_too() -> None:
    mostly = source([i % 50 != 7 for i in range(500)])  # 10 failures
    chosen = choose(mostly, 40)
    assert len(chosen) == 40 and sum(i % 50 == 7 for i in chosen) == 10
    assert chosen == sorted(set(chosen)) and chosen[-1] > 450  # from the whole dataset
    failed = choose(source([i % 10 == 0 for i in range(500)]), 40)
    assert sum(i % 10 == 0 for i in failed) == 20
    assert choose(source([None, None]), 40) == [0, 1]
    assert len(choose(source([False] * 100), 40)) == 40


def test_filters_are_text_and_css(tmp_path: Path) -> None:
    cards = (
        Card("", "", EVIL, {"outcome": "success", EVIL: EVIL}),
        Card("", "", EVIL, {"outcome": "failure", EVIL: "x"}),
    )
    write_report(tmp_path / "page.html", Report(EVIL, EVIL, (), [Browser(EVIL, cards, EVIL)]))
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page and "<img" not in page
    assert ".browser1:has(#f1-1-1:checked) .card:not(.c1-1) { display: none; }" in page
    assert page.count('type="radio"') == 6  # all and two choices, of two filters
    assert 'class="card c1-1 c2-1"' in page and 'class="card c1-2 c2-2"' in page


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio", None)
    with pytest.raises(MissingPackageError, match=r"simscaleai\[viz\]"):
        write_dataset_page(tmp_path / "data.h5", tmp_path / "page.html")


def test_a_page_of_a_dataset_of_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    data, page = tmp_path / "data.h5", tmp_path / "page.html"
    generate_dataset(
        "reach_color", 6, str(data), "scripted", domain_randomization=False, show_progress=False
    )
    # drawing is slow where the kernels are not compiled yet; the rest is real
    monkeypatch.setattr(dataset_page, "_renderer", lambda data: SimpleNamespace(close=lambda: None))
    frames = np.zeros((5, 32, 32, 3), np.uint8)
    monkeypatch.setattr(dataset_page, "_drawn", lambda *args: frames)
    assert write_dataset_page(data, page, 4, "simscale viz-dataset ...") == 4
    text = page.read_text()
    assert text.count('<video src="data:video/mp4') == text.count("poster=") == 4
    assert "6 episodes, 100.0 % successful" in text and "Episodes (4 of 6)" in text
    assert re.search(r"<legend>asks for</legend>", text) and "outcome</legend>" not in text
    monkeypatch.setattr(dataset_page, "_VIDEO_BYTES", 0)
    write_dataset_page(data, page, 4)  # an earlier page is replaced
    assert "<video" not in page.read_text() and "<img" in page.read_text()
    refused(lambda: write_dataset_page(data, page, 0), "1 to 1000")
    (tmp_path / "notes.html").write_text("mine")
    refused(lambda: write_dataset_page(data, tmp_path / "notes.html"), "not a report", "--save")
    assert (tmp_path / "notes.html").read_text() == "mine"
