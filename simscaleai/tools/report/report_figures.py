"""Figures of reports, each small enough to be read on a phone; none without matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simscaleai.errors import UserError
from simscaleai.evaluation.path_recorder import HandPath
from simscaleai.evaluation.stress import StressedAxis
from simscaleai.rollout.outcomes import EpisodeResult
from simscaleai.storage.find_checkpoint import find_checkpoint
from simscaleai.tools.figures.curves import (
    draw_loss,
    draw_success_or_error,
    finish,
    legends_below,
    log_axis,
)
from simscaleai.tools.figures.metrics import Metrics, Series, read_metrics
from simscaleai.tools.figures.stress_curves import draw_axis
from simscaleai.tools.figures.style import CYCLE, GREEN, RED, new_figure, styled
from simscaleai.tools.report.report_page import Medium, data_uri
from simscaleai.tracking.log import METRICS_FILE

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

SIZE = (4.2, 2.9)  # inches; 9-point text can be read when this is as wide as a phone
MOST_PATHS = 200  # beyond, lines cover each other and the file grows
# Ids of a fixed salt make equal figures equal files; paths need no font on the reader's machine.
_SVG: dict[RcKeyType, object] = {"svg.hashsalt": "simscale", "svg.fonttype": "path"}


def can_draw() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def medium(figure: Figure, caption: str) -> Medium:
    """Return a figure as vector graphics; equal figures give equal bytes."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(_SVG):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Medium(data_uri(buffer.getvalue(), "image/svg+xml"), caption)


@styled
def plot_success_over_time(episodes: Mapping[str, Sequence[EpisodeResult]]) -> Figure:
    """Plot for each policy the share of episodes that have succeeded by each control step."""
    figure = new_figure(*SIZE)
    axes = figure.subplots()
    last = max((e.length for results in episodes.values() for e in results), default=1)
    for (name, results), color in zip(episodes.items(), CYCLE * len(episodes), strict=False):
        lengths = np.sort([e.length for e in results if e.success])
        # of all episodes, failures too: curves of several policies end at their success rates
        shares = np.arange(len(lengths) + 1) / max(len(results), 1)
        steps = np.concatenate(([0], lengths))
        # level until the longest episode
        axes.step(
            [*steps, last], 100 * np.append(shares, shares[-1]), "-", where="post", color=color,
            label=name,
        )  # fmt: skip
    axes.set(xlabel="control steps", ylabel="episodes that succeeded (%)", ylim=(-3, 103))
    if len(episodes) > 1:
        axes.legend(loc="lower right")
    return figure


@styled
def plot_paths(paths: Sequence[tuple[HandPath, bool]]) -> Figure:
    """Plot paths of the gripper seen from above, by outcome, failures on top; a marker is where it ended."""
    figure = new_figure(SIZE[0], 3.6)
    axes = figure.subplots()
    for success, color, marker, label in (
        # failures last, so that few of them are seen among many successes
        (True, GREEN, "o", "success"),
        (False, RED, "x", "failure"),
    ):
        chosen = [path for path, outcome in paths if outcome == success]
        for path in chosen:
            axes.plot(*path.T, color=color, linewidth=0.7, alpha=0.45)
        # (n, 2), also for n = 0: the legend then counts 0
        ends = np.array([path[-1] for path in chosen]).reshape(-1, 2)
        axes.plot(
            *ends.T, marker, color=color, markersize=4, linestyle="none",
            label=f"{label} ({len(chosen)})",
        )  # fmt: skip
    axes.set(xlabel="x (m)", ylabel="y (m)", aspect="equal")
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1.14), ncols=2, borderaxespad=0)
    return figure


@styled
def plot_stressed_axis(axis: StressedAxis) -> Figure:
    """Plot success over the levels of one axis, with the band of its control."""
    figure = new_figure(*SIZE)
    panel = figure.subplots()
    draw_axis(panel, axis)
    panel.set_ylabel("success")
    return figure


@styled
def plot_runs(runs: Mapping[str, Metrics], name: str, label: str) -> Figure | None:
    """Plot one metric of several runs; None if no run recorded it."""
    figure = new_figure(*SIZE)
    axes = figure.subplots()
    recorded = {title: series for title, run in runs.items() if (series := run.get(name))}
    if not recorded:
        return None
    for (title, series), color in zip(recorded.items(), CYCLE * len(recorded), strict=False):
        axes.plot(series.steps, series.values, color=color, label=title)
    axes.set(xlabel="optimizer steps", ylabel=label)
    if name == "loss":  # losses fall by orders of magnitude
        every = [series.values for series in recorded.values()]
        steps = [series.steps for series in recorded.values()]
        log_axis(axes, Series(np.concatenate(steps), np.concatenate(every)))
    if len(recorded) <= len(CYCLE):  # beyond, colors repeat and a legend would cover the curves
        axes.legend()
    return figure


def training_curves(policy: str) -> tuple[Medium, ...]:
    """Return loss and success (or action error) of the run that a checkpoint is from; () without records."""
    # a policy that was trained elsewhere has a report all the same
    metrics = _metrics_of(policy) if can_draw() else None
    if metrics is None or "loss" not in metrics.series:
        return ()
    return _training_curves(metrics)


@styled
def _training_curves(metrics: Metrics) -> tuple[Medium, ...]:
    found = []
    for draw, caption in (
        (draw_loss, "Loss in training and validation"),
        (draw_success_or_error, "Success in closed loop, or error of the action"),
    ):
        figure = new_figure(*SIZE)
        axes = figure.subplots()
        draw(axes, metrics)
        if axes.lines:  # else the run recorded nothing of this kind
            axes.set_xlabel("optimizer steps")
            finish([axes])
            legends_below([axes])
            found.append(medium(figure, caption))
    return tuple(found)


def run_folder(policy: str) -> Path | None:
    """Return the folder of the run that a checkpoint is from; None for other policies."""
    with suppress(UserError):
        checkpoint = find_checkpoint(policy)
        # a checkpoint lies in the folder of its run, or in `checkpoints` there
        for folder in (checkpoint.parent, checkpoint.parent.parent):
            if (folder / METRICS_FILE).is_file():
                return folder
    return None


def _metrics_of(policy: str) -> Metrics | None:
    folder = run_folder(policy)
    if folder is None:
        return None
    with suppress(UserError):
        return read_metrics(folder)
    return None
