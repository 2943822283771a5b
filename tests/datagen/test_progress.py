"""The progress bar draws what was counted."""

from __future__ import annotations

import io

import rich.console

from simscaleai.datagen import progress
from simscaleai.datagen.parts import Finished
from simscaleai.datagen.workers import Progress


def drawn(monkeypatch, *, only_success):
    screen = io.StringIO()

    def console(**_):
        return rich.console.Console(file=screen, force_terminal=True, width=150, color_system=None)

    monkeypatch.setattr(progress, "Console", console)
    with progress.ProgressBar(10, only_success=only_success, show=True) as bar:
        bar.start([Finished(0, 1, False, 5, 0.0, "", {}, True)])
        bar.add(Progress(3, 2, 40))
    return screen.getvalue()


def test_episodes_and_success_so_far(monkeypatch):
    text = drawn(monkeypatch, only_success=False)
    assert "4/10" in text
    assert "success 50.0%" in text
    assert "episodes/s" in text


def test_with_only_success_the_bar_counts_successes(monkeypatch):
    assert "2/10" in drawn(monkeypatch, only_success=True)
