"""Reports open anywhere, run nothing, and replace nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simscaleai.errors import ExistingFileError, UserError
from simscaleai.evaluation.comparison import SuccessRate
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.tools.report.report_page import (
    Funnel,
    Preformatted,
    Rates,
    Report,
    Table,
    VerdictBox,
    write_report,
)
from simscaleai.tools.report.report_parts import VIDEO_BYTES, funnel, gallery

EVIL = "</title><script>alert(1)</script><img src=x onerror=alert(2)>"


def episodes(*stages: str | None) -> list[EpisodeResult]:
    return [
        EpisodeResult(i, i, stage is None, stage is None, -1.0, 9, stage)
        for i, stage in enumerate(stages)
    ]


def test_names_are_text_whatever_they_contain(tmp_path: Path) -> None:
    rate = SuccessRate.of(9, 10)
    evil = f"{EVIL}\ud800"
    report = Report(
        evil,
        evil,
        (VerdictBox("neutral", evil, evil),),
        [
            Rates(evil, ((evil, rate),), evil),
            funnel(evil, episodes(EVIL, None), [EVIL]),
            Table(evil, (evil,), ((evil,),), evil),
            Table(evil, (evil,), ((evil,),), evil, folded=True),
            Preformatted(evil, evil),
        ],
    )
    path = tmp_path / "report.html"
    write_report(path, report)
    page = path.read_text()
    assert page.count("&lt;script&gt;") >= 15 and "<script" not in page and "<img" not in page
    assert "default-src 'none'" in page
    # nothing is loaded from anywhere
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert not re.search(r"https?://", page)


def test_a_report_replaces_a_report_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    for title in ("first", "second"):
        write_report(path, Report(title, "", (), []))
        assert f"<title>{title}</title>" in path.read_text()
    path.write_text("<p>of mine</p>")
    with pytest.raises(ExistingFileError, match="is not a report of simscale; move it"):
        write_report(path, Report("third", "", (), []))
    assert path.read_text() == "<p>of mine</p>"
    with pytest.raises(UserError, match="is a folder"):
        write_report(tmp_path, Report("fourth", "", (), []))


def test_the_funnel_counts_down_stage_by_stage() -> None:
    found = funnel(
        "", episodes("late", None, "early", "late", "diverged", "other"), ["early", "late"]
    )
    assert isinstance(found, Funnel) and found.n == 6
    # unstable physics first, stages that the task does not name last; one of six succeeds
    counted = [(step.label, step.lost, step.left) for step in found.steps]
    assert counted == [("diverged", 1, 5), ("early", 1, 4), ("late", 2, 2), ("other", 1, 1)]


def test_videos_are_embedded_up_to_a_size(tmp_path: Path) -> None:
    sizes = (VIDEO_BYTES // 2, VIDEO_BYTES, VIDEO_BYTES // 2, 10)
    files = [tmp_path / f"{k}.mp4" for k in range(5)]
    for file, size in zip(files, sizes, strict=False):
        file.write_bytes(b"\0" * size)
    # the second is too large beside the first, the fourth has no room left, the fifth does not exist
    found = gallery("", [(file, file.stem) for file in files])
    assert [medium.caption for medium in found.media] == ["0", "2"]
    assert found.note == "3 more would make this page too large."


WIDTHS = {1280: 900, 390: 844}


@pytest.mark.slow
def test_a_browser_shows_it_at_any_width(
    tmp_path: Path, new_page: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from simscaleai.evaluation.evaluate_source import SourceEvaluation, evaluate_source
    from simscaleai.evaluation.path_recorder import PathRecorder
    from simscaleai.tools.report.eval_report import write_eval_report

    settings = SourceEvaluation(
        n_episodes=200, env_name="reach_color", output_dir=str(tmp_path), show_progress=False
    )
    paths = PathRecorder()
    found = evaluate_source("random", settings, [paths])
    found["checkpoint"] = "a_name_without_spaces_" * 12
    monkeypatch.setattr(
        "simscaleai.tools.report.eval_report.find_policy_source",
        lambda name, *rest: find_policy_source("random", *rest),
    )
    from simscaleai.rollout.policy_source import find_policy_source

    path = tmp_path / "report.html"
    write_eval_report(path, [found], settings, [paths])
    assert path.stat().st_size < 5e6
    page = new_page(1280, 900)
    for width, height in WIDTHS.items():
        page.resize(width, height)
        page.open(path.as_uri())
        # nothing is cut off or scrolls sideways, and every video plays
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        playing = (
            "[...document.querySelectorAll('video')].map(v => v.play().then(() => v.videoWidth))"
        )
        assert page.evaluate(f"Promise.all({playing})") == [256] * 6
        smallest = (
            "Math.min(...[...document.querySelectorAll('p, td, th, .label, .value, figcaption')]"
            ".filter(e => e.offsetParent).map(e => parseFloat(getComputedStyle(e).fontSize)))"
        )
        assert page.evaluate(smallest) >= 13
        bars = "Math.max(...[...document.querySelectorAll('.bar i')].map(e => e.offsetWidth))"
        assert page.evaluate(bars) > 200
        assert page.picture().std() > 15
    assert page.problems == []
