"""`make demo`, made small."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import pytest

from simscaleai.errors import UserError
from simscaleai.tools import demo
from simscaleai.tools.demo import run_demo

SMALL: dict[str, Any] = {"n_demonstrations": 4, "max_steps": 10, "n_episodes": 3}


def test_demo_prints_one_table_and_writes_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "record", partial(demo.record, n_steps=5))
    monkeypatch.setattr("simscaleai.tools.report.eval_report.FILMED", 0)  # 200 steps each
    folder = tmp_path / "demo"
    for _ in range(2):  # again over what is there
        summary = run_demo(folder, "reach", **SMALL, n_filmed=2, size=16)
        out = capsys.readouterr().out
        assert out.count("┏") == 1
        assert "4 episodes" in out
        assert "3 unseen episodes" in out
        files = {path.name for path in folder.iterdir()}
        assert files >= {"demonstrations.h5", "final.pt", "eval_info.json", "summary.json"}
        assert files >= {"contact_sheet.png", "rollout.mp4", "report.html"}
        assert iio.imread(folder / "contact_sheet.png").std() > 15
        assert len(iio.imread(folder / "rollout.mp4", plugin="FFMPEG")) == 26
        assert json.loads((folder / "summary.json").read_text()) == summary
    assert (tmp_path / "demo.old-1" / "final.pt").is_file()


def test_demo_goes_on_where_nothing_can_draw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(*args: Any, **options: Any) -> Any:
        raise UserError("There is nothing to render with.")

    def film(*args: Any) -> Any:
        raise UserError("There is nothing to film with.")

    monkeypatch.setattr(demo, "record", record)
    monkeypatch.setattr("simscaleai.tools.report.report_parts.film_episodes", film)
    summary = run_demo(tmp_path, "reach", **SMALL)
    results = [stage["result"] for stage in summary["stages"]]
    assert results[-2:] == ["none: There is nothing to render with.", "report.html"]
    page = (tmp_path / "report.html").read_text()
    assert (
        "No videos: There is nothing to film with." in page
        and "simscale demo --env-name reach" in page
    )
    assert "nothing to render with" in capsys.readouterr().out
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
