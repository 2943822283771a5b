"""Figures of several runs: each recipe as the mean over its seeds, with a band.

    runs = find_runs(["runs/a", "runs/sweep"])  # a run, and all runs of a folder
    plot_several(runs, TRAINING, "optimizer steps")

Runs whose settings differ in nothing but the seed are one recipe. The band is the range of its seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simscaleai.array_types import FloatArray
from simscaleai.errors import MissingFileError, UserError
from simscaleai.storage.find_checkpoint import RUNS
from simscaleai.tools.figures.curves import SMOOTH, finish, log_axis, smooth
from simscaleai.tools.figures.metrics import Metrics, Series, read_metrics
from simscaleai.tools.figures.style import CYCLE, new_figure, styled
from simscaleai.tracking.log import METRICS_FILE

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_RUNS = 200
_MOST_SETTINGS = 3  # in a label
_FEW = 30  # points of a curve, each of which has a marker
_POINTS = 200  # of a mean over seeds
# settings in which the seeds of a recipe differ: names and places too
_OF_ONE_RUN = ("seed", "name", "output_dir", "save_path", "resume_from", "runs_dir", "log_dir")


class Panel(NamedTuple):
    """One metric of several runs."""

    title: str
    ylabel: str
    names: tuple[str, ...]  # of the metric; the first that was recorded
    scale: float = 1.0
    log: bool = False


TRAINING = (
    Panel("Loss", "loss per sample", ("loss",), log=True),
    Panel("Loss in validation", "loss per sample", ("eval_loss",), log=True),
    Panel("Success in closed loop", "episodes (%)", ("eval_success_rate",), 100.0),
    Panel("Error of the action", "mean absolute error", ("eval_action_mae", "action_mae")),
)
REINFORCEMENT = (
    Panel("Return", "sum of rewards of an episode", ("eval_mean_reward", "episode_reward")),
    Panel("Success", "episodes (%)", ("eval_success_rate", "success_rate"), 100.0),
    Panel("Length of an episode", "control steps", ("eval_mean_length", "episode_length")),
)


def find_runs(names: Sequence[str | Path]) -> list[Path]:
    """Return the folders of the named runs, and of all runs in a folder of runs such as a sweep.

    Raises:
      MissingFileError: a name is neither.
      UserError: there are too many.
    """
    found: list[Path] = []
    for name in names:
        places = [Path(name), RUNS / name]
        runs = next((p for p in places if (p / METRICS_FILE).is_file() or p.is_file()), None)
        if runs is not None:
            found.append(runs)
            continue
        inside = sorted({f.parent for p in places for f in p.glob(f"*/{METRICS_FILE}")})
        inside = inside or sorted({f.parent for p in places for f in p.glob(f"*/*/{METRICS_FILE}")})
        if not inside:
            read_metrics(name)  # raises what is wrong with it
            raise MissingFileError(f"{name} has no runs.")
        found += inside
    found = list(dict.fromkeys(found))
    if len(found) > MOST_RUNS:
        raise UserError(
            f"There are {len(found)} runs; a figure takes {MOST_RUNS}. Name some of them."
        )
    return found


def recipes(runs: Sequence[Metrics]) -> dict[str, list[Metrics]]:
    """Return the runs by recipe, {label: runs}; the label says what tells a recipe from the others."""
    flat = [_flat(run.config) for run in runs]
    keys = sorted({key for settings in flat for key in settings})
    differ = [k for k in keys if len({json.dumps(s.get(k), default=str) for s in flat}) > 1]
    groups: dict[str, list[int]] = {}
    for i, settings in enumerate(flat):
        # settings that cannot be read tell nothing: such a run is a recipe of its own
        what = [settings.get(k) for k in differ] if settings else str(runs[i].folder)
        groups.setdefault(json.dumps(what, default=str), []).append(i)
    # many settings differ between recipes of different models: their names say more then
    few = 0 < len(differ) <= _MOST_SETTINGS and all(flat)
    found: dict[str, list[Metrics]] = {}
    for members in groups.values():
        settings = flat[members[0]]
        parts = [f"{k.rpartition('.')[2]}={_short(settings.get(k))}" for k in differ]
        label = ", ".join(parts) if few else _names([runs[i] for i in members])
        found.setdefault(label, []).extend(runs[i] for i in members)
    return found


@styled
def plot_several(paths: Sequence[Path], panels: Sequence[Panel], xlabel: str) -> Figure:
    """Plot metrics of several runs, as means over seeds; the legend is below the panels.

    Args:
      paths: folders of the runs, as of `find_runs`.
      panels: what to draw; metrics that no run recorded are left out.
      xlabel: what the steps are.

    Raises:
      UserError: a run does not exist, or recorded nothing of this kind.
    """
    groups = recipes([read_metrics(path) for path in paths])
    runs = [run for group in groups.values() for run in group]
    used = [panel for panel in panels if any(run.get(*panel.names) for run in runs)]
    if not used:
        raise UserError(
            f"{runs[0].folder} records nothing of this kind; `simscale viz-training` is for runs on datasets,"
            " and `simscale viz-rl` for reinforcement learning."
        )
    columns = min(2, len(used))
    rows = math.ceil(len(used) / columns)
    legend = 0.22 * len(groups) + 0.15  # inches: one line for each recipe
    title = f"{len(runs)} runs" + (f" of {len(groups)} recipes" if len(groups) > 1 else "")
    figure = new_figure(4.4 * columns, 2.7 * rows + legend, title)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, drawn in zip(used, axes, strict=False):
        _draw(drawn, panel, groups)
    for empty in axes[len(used) :]:
        empty.remove()
    for drawn in axes[: len(used)][-columns:]:
        drawn.set_xlabel(xlabel)
    finish(axes[: len(used)])
    handles = {label: line for drawn in axes[: len(used)] for line, label in _labelled(drawn)}
    figure.legend(list(handles.values()), list(handles), loc="outside lower left", fontsize=8)
    return figure


def _draw(axes: Axes, panel: Panel, groups: dict[str, list[Metrics]]) -> None:
    for i, (label, runs) in enumerate(groups.items()):
        recorded = [found for run in runs if (found := run.get(*panel.names)) is not None]
        curves = [
            (s.steps, panel.scale * smooth(s.values, len(s.values) // SMOOTH)) for s in recorded
        ]
        if not curves:
            continue
        color = CYCLE[i % len(CYCLE)]
        steps, low, mean, high = over_seeds(curves)
        seeds = f" ({len(curves)} seeds: mean and range)" if len(curves) > 1 else ""
        style = "o-" if len(steps) <= _FEW else "-"  # evaluations are few
        axes.plot(steps, mean, style, color=color, markersize=3, label=label + seeds)
        if len(curves) > 1:
            axes.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
    axes.set(title=panel.title, ylabel=panel.ylabel)
    if panel.log:
        drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
        log_axis(axes, Series(np.arange(len(drawn), dtype=float), drawn))


def over_seeds(
    curves: Sequence[tuple[FloatArray, FloatArray]],
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return steps (m,), and the lowest, mean and highest value there over curves (steps, values).

    Only steps that every curve has reached: the mean of fewer seeds would jump where one ends.
    """
    if len(curves) == 1:
        steps, values = curves[0]
        return steps, values, values, values
    first, last = max(s[0] for s, _ in curves), min(s[-1] for s, _ in curves)
    if first >= last:  # no common time: the last values say most
        first = last
    same = all(np.array_equal(s, curves[0][0]) for s, _ in curves)
    # one step, where there is no common time: of many equal ones, none would be seen
    steps = curves[0][0] if same else np.unique(np.linspace(first, last, _POINTS))
    values = np.stack([np.interp(steps, s, v) for s, v in curves])  # (seeds, m)
    return steps, values.min(0), values.mean(0), values.max(0)


def _flat(config: dict[str, object], prefix: str = "") -> dict[str, object]:
    """Return {"a.b": value} of nested settings, without those that differ from seed to seed."""
    found: dict[str, object] = {}
    for key, value in config.items():
        if key in _OF_ONE_RUN:
            continue
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _short(value: object) -> str:
    text = Path(value).name if isinstance(value, str) and "/" in value else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _names(runs: Sequence[Metrics]) -> str:
    names = [run.folder.name for run in runs]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _labelled(axes: Axes) -> list[tuple[Artist, str]]:
    return list(zip(*axes.get_legend_handles_labels(), strict=True))
