"""Figures of camera images over time: one episode as a grid, and several as a contact sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from simscaleai.convert import converted
from simscaleai.rollout.policy_source import find_policy_source
from simscaleai.tools.figures.rollout import RolloutFrame, episode_lengths, record
from simscaleai.tools.figures.style import LINE, frame, new_figure, show_image, styled
from simscaleai.tools.figures.tiles import verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = 12  # images of a rollout, at most
COLUMNS = 4
SHEET = 6  # images per episode on a contact sheet


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
    episode: int = 0,
    env_kwargs: Mapping[str, object] | None = None,
    instruction: str | None = None,
) -> Figure:
    """Draw a rollout as a grid of images, evenly spaced in time.

    Args:
      env_name: name of the environment; None for that of the checkpoint, or "reach" for other policies.
      n_steps: control steps to show; None for the whole episode.
      policy: "scripted" (the expert), "random", a checkpoint, a run, or a function "module:function".
      camera: a camera, such as "front_cam" or "front_cam:320x240"; None for one that shows hand, object and
        goal at the start.
      seed: seed of the episodes, as in `simscale eval --seed`.
      randomize: randomization level; None for no randomization.
      size: height and width of an image, pixels.
      robot: name of a robot; None for that of the checkpoint, or the Panda for other policies.
      episode: number of the episode, as in the results of `simscale eval`.
      env_kwargs: further fields of `SimConfig`.
      instruction: one sentence for every episode; None for the task's own.

    Raises:
      UserError: a name is unknown, the arguments are incompatible, or no render engine works here.
    """
    source = find_policy_source(policy, env_name, randomize, robot=robot, env_kwargs=env_kwargs)
    seconds = source.config.control_dt
    # the length must be known to space the images evenly; a run without rendering is cheap
    lengths = episode_lengths(
        source, seed=seed, n_steps=n_steps, episodes=[episode], instruction=instruction
    )
    length = int(lengths[0])
    shown = evenly_spaced(length + 1, GRID)
    snapshots = list(
        record(
            source,
            camera=camera,
            size=(size, size),
            seed=seed,
            n_steps=n_steps,
            shown=shown,
            samples=2,
            episodes=[episode],
            instruction=instruction,
        )
    )
    rows = math.ceil(len(shown) / COLUMNS)
    columns = min(COLUMNS, len(shown))
    end = snapshots[-1]
    took = f"{length} steps ({length * seconds:.3g} s)"
    how = verdict(bool(end.over[0]), bool(end.success[0]))[1]
    looks = f", randomized ({randomize})" if randomize else ""
    which = f", episode {episode}" if episode else ""
    title = (
        f"{source.env_name}, {source.title}{looks}{which}: {how + ' after ' if how else ''}{took}"
    )
    asked = end.instructions[0] if end.instructions else ""
    height, width = end.images.shape[1:3]
    tall = 2.1 * height / width  # inches
    top = 0.4 + (LINE if asked else 0.0)
    figure = new_figure(
        2.1 * columns, top + (tall + 0.2) * rows, title + (f"\n“{asked}”" if asked else "")
    )
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    # zip ends with the images: there are at least as many panels
    for axes, snapshot in zip(panels, snapshots, strict=False):
        show_image(axes, snapshot.images[0])
        axes.set_title(f"{snapshot.steps[0] * seconds:.2f} s")
    _mark(panels[len(shown) - 1], end, 0)
    for axes in panels[len(shown) :]:  # the last row may be incomplete
        axes.remove()
    return figure


@styled
def contact_sheet(snapshots: Sequence[RolloutFrame], seconds: float, title: str = "") -> Figure:
    """Draw one row of images per episode, from its start to its end, with its outcome.

    Args:
      snapshots: snapshots of n episodes at every step, from `record`.
      seconds: duration of one step.
      title: title of the figure.
    """
    n, height, width, _ = snapshots[0].images.shape
    end = snapshots[-1]
    side = 1.75  # inches
    figure = new_figure(0.5 + side * SHEET, 0.3 + (side * height / width + 0.25) * n, title)
    grid = figure.subplots(n, SHEET, squeeze=False)
    for i, row in enumerate(grid):
        times = evenly_spaced(int(end.steps[i]) + 1, SHEET)
        for axes, k in zip(row, times, strict=False):
            show_image(axes, snapshots[k].images[i])
            axes.set_title(f"{k * seconds:.2f} s")
        for axes in row[len(times) :]:
            axes.remove()
        row[0].set_ylabel(f"episode {end.number(i)}")
        _mark(row[len(times) - 1], end, i)
    return figure


def evenly_spaced(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers 0 to count - 1, evenly spaced, with both ends."""
    chosen: list[int] = np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()
    return chosen


def _mark(axes: Axes, end: RolloutFrame, i: int) -> None:
    """Label the last image of episode i with its outcome."""
    if end.over[i]:
        color, word = verdict(True, bool(end.success[i]))
        frame(axes, color)
        axes.set_title(f"{axes.get_title(loc='left')}: {word}", color=color, fontweight="bold")
