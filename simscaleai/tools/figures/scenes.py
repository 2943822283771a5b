"""Figures of camera images: a rollout over time, and one state in every modality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simscaleai.convert import converted
from simscaleai.rollout.policy_source import find_policy_source
from simscaleai.tools.figures.rollout import RolloutFrame, lengths, record
from simscaleai.tools.figures.style import frame, new_figure, show_image, styled
from simscaleai.tools.figures.tiles import verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = 12  # images of a rollout, at most
COLUMNS = 4
SHEET = 6  # images of an episode on a contact sheet


@converted
@styled
def plot_env(
    env_name: str | None = None,
    n_steps: int | None = None,
    policy: str = "scripted",
    *,
    camera: str | None = None,
    seed: int = 0,
    randomize: str | None = None,
    size: int = 256,
    robot: str | None = None,
) -> Figure:
    """A rollout as a grid of images, evenly spaced in time.

    Args:
      env_name: environment; None is the checkpoint's own, and "reach" for the other policies.
      n_steps: control steps to show; None shows the whole episode.
      policy: "scripted" (the expert), "random", a checkpoint, a run, or a function "module:function".
      camera: one of the scene's; None is `observer_cam`, or the first one of a scene without it.
      seed: which episode.
      randomize: randomization level; None for none.
      size: height and width of an image, pixels.
      robot: name of a robot; None is the checkpoint's own, or the Panda for other policies.

    Raises:
      UserError: something of this is unknown, does not fit together, or nothing can render here.
    """
    source = find_policy_source(policy, env_name, randomize, robot=robot)
    seconds = source.config.control_dt
    length = int(lengths(source, seed=seed, n_steps=n_steps)[0])
    shown = spread(length + 1, GRID)
    options: Any = {"camera": camera, "size": (size, size), "seed": seed, "n_steps": n_steps}
    moments = list(record(source, **options, shown=shown, samples=2))
    rows = math.ceil(len(shown) / COLUMNS)
    columns = min(COLUMNS, len(shown))
    end = moments[-1]
    took = f"{length} steps ({length * seconds:.3g} s)"
    how = verdict(bool(end.over[0]), bool(end.success[0]))[1]
    looks = f", randomized ({randomize})" if randomize else ""
    title = f"{source.env_name}, {source.title}{looks}: {how + ' after ' if how else ''}{took}"
    figure = new_figure(2.1 * columns, 0.4 + 2.3 * rows, title)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, moment in zip(panels, moments, strict=False):
        show_image(axes, moment.images[0])
        axes.set_title(f"{moment.steps[0] * seconds:.2f} s")
    _mark(panels[len(shown) - 1], end, 0)
    for axes in panels[len(shown) :]:
        axes.remove()
    return figure


@styled
def contact_sheet(moments: Sequence[RolloutFrame], seconds: float, title: str = "") -> Figure:
    """Episodes below one another, each from its start to its end, and how it ended.

    Args:
      moments: of n episodes, from `record`.
      seconds: of one step.
    """
    n, height, width, _ = moments[0].images.shape
    end = moments[-1]
    side = 1.75
    figure = new_figure(0.5 + side * SHEET, 0.3 + (side * height / width + 0.25) * n, title)
    grid = figure.subplots(n, SHEET, squeeze=False)
    for i, row in enumerate(grid):
        times = spread(int(end.steps[i]) + 1, SHEET)
        for axes, k in zip(row, times, strict=False):
            show_image(axes, moments[k].images[i])
            axes.set_title(f"{k * seconds:.2f} s")
        for axes in row[len(times) :]:
            axes.remove()
        row[0].set_ylabel(f"episode {i}")
        _mark(row[len(times) - 1], end, i)
    return figure


def spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers 0 to count - 1, evenly spaced, with both ends."""
    chosen: list[int] = np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()
    return chosen


def _mark(axes: Axes, end: RolloutFrame, i: int) -> None:
    """Label the last image of episode i with how it ended."""
    if end.over[i]:
        color, word = verdict(True, bool(end.success[i]))
        frame(axes, color)
        axes.set_title(f"{axes.get_title(loc='left')}: {word}", color=color, fontweight="bold")
