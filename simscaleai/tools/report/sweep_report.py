"""The report of a sweep: which settings do best."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from simscaleai.errors import UserError
from simscaleai.evaluation.comparison import SuccessRate
from simscaleai.json_types import JsonDict
from simscaleai.tools.console import text
from simscaleai.tools.figures.metrics import Metrics, read_metrics
from simscaleai.tools.report.report_figures import can_draw, medium, plot_runs
from simscaleai.tools.report.report_page import (
    REPORT,
    Figures,
    Medium,
    Rates,
    Report,
    Section,
    Table,
    VerdictBox,
    write_report,
)
from simscaleai.tools.report.report_parts import origin


@dataclass(frozen=True)
class SweptRun:
    """One run of a sweep.

    Attributes:
      label: what it was given.
      folder: where it is.
      status: "finished", "failed", "interrupted" or "not started".
      metrics: of a finished run.
      eval_episodes: number of episodes of its evaluation; 0 for none.
      error: of a failed one.
    """

    label: str
    folder: Path
    status: str
    metrics: dict[str, float]
    eval_episodes: int = 0
    error: str = ""


def write_sweep_report(
    folder: Path, runs: Sequence[SweptRun], words: Sequence[str], settings: JsonDict
) -> Path:
    """Write the report of a sweep into its folder; return its path.

    Args:
      folder: that of the sweep.
      runs: in their order.
      words: the command that repeats it.
      settings: those that all runs have in common.
    """
    sections: list[Section] = [Rates("Success in closed loop", _rates(runs))]
    # in order of appearance; runs of different models have different metrics
    names = list(dict.fromkeys(name for run in runs for name in run.metrics))
    rows = tuple(
        (
            run.label,
            run.error or run.status,
            *("" if run.metrics.get(n) is None else text(n, run.metrics[n]) for n in names),
        )
        for run in runs
    )
    columns = ("run", "status", *(name.replace("_", " ") for name in names))
    sections.append(Table("Runs", columns, rows))
    sections.append(Figures("Curves", _curves(runs)))
    sections += origin(shlex.join(words), settings)
    finished = sum(run.status == "finished" for run in runs)
    subtitle = f"{finished} of {len(runs)} runs finished, in {folder}"
    path = folder / REPORT
    write_report(path, Report(f"Sweep {folder.name}", subtitle, (_verdict(runs),), sections))
    return path


def _verdict(runs: Sequence[SweptRun]) -> VerdictBox:
    """Name the run with the highest success rate, else with the lowest loss."""
    # success is what counts; loss is compared only where nothing was evaluated
    for name, sign in (("eval_success_rate", -1), ("eval_loss", 1), ("loss", 1)):
        known = [run for run in runs if _number(run.metrics.get(name)) is not None]
        if known:
            best = min(known, key=lambda run: sign * run.metrics[name])
            value = text(name, best.metrics[name])
            detail = f"Best {name.removeprefix('eval_').replace('_', ' ')} of {len(known)} runs: {value}."
            if len(known) > 1 and name == "eval_success_rate":
                detail += (
                    " The best of several is partly luck; evaluate it again with another --seed."
                )
            return VerdictBox("neutral", best.label or best.folder.name, detail)
    return VerdictBox("bad", "No run has finished", "There is nothing to compare yet.")


def _number(value: object) -> float | None:
    """Return a finite number; None for anything else, which a file may hold."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _rates(runs: Sequence[SweptRun]) -> tuple[tuple[str, SuccessRate], ...]:
    rows = []
    for run in runs:
        rate, n = _number(run.metrics.get("eval_success_rate")), run.eval_episodes
        # the file holds the rate alone: the count is recovered for the interval
        if rate is not None and n > 0 and 0 <= rate <= 1:
            rows.append((run.label, SuccessRate.of(round(rate * n), n)))
    return tuple(rows)


def _curves(runs: Sequence[SweptRun]) -> tuple[Medium, ...]:
    found: dict[str, Metrics] = {}
    for run in runs:
        with suppress(UserError):  # one that has recorded nothing
            found[run.label or run.folder.name] = read_metrics(run.folder)
    # the table holds the results without any figure
    if not (found and can_draw()):
        return ()
    curves = (
        ("loss", "loss per sample"),
        ("eval_loss", "validation loss"),
        ("eval_success_rate", "success"),
    )
    figures = [(plot_runs(found, name, label), label) for name, label in curves]
    return tuple(medium(figure, label) for figure, label in figures if figure is not None)
