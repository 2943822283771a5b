"""The progress bar draws what was counted."""

from __future__ import annotations

import io

import rich.console

from simscaleai.datagen import progress_bar as progress
from simscaleai.datagen.shards import EpisodeSummary


def drawn(monkeypatch, kept):
    screen = io.StringIO()

    def console(**_):
        return rich.console.Console(file=screen, force_terminal=True, width=150, color_system=None)

    monkeypatch.setattr(progress, "Console", console)
    with progress.ProgressBar(10, show=True) as bar:
        earlier = EpisodeSummary(0, 1, False, 5, 0.0, "", {}, kept > 2)
        bar.start(progress.EpisodeCounts.of([earlier]))
        bar.add(progress.EpisodeCounts(3, 2, min(kept, 3)))
    return screen.getvalue()


def test_episodes_and_success_so_far(monkeypatch):
    text = drawn(monkeypatch, kept=4)
    assert "4/10" in text
    assert "success 50.0%" in text
    assert "episodes/s" in text


def test_episodes_that_are_no_data_do_not_advance_the_bar(monkeypatch):
    text = drawn(monkeypatch, kept=2)
    assert "2/10" in text
    assert "success 50.0%" in text
