"""Figure of one episode of a dataset over time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simscaleai.array_types import Array, ArrayDict
from simscaleai.convert import converted
from simscaleai.errors import UserError
from simscaleai.guards import guarded
from simscaleai.observations import is_image
from simscaleai.storage.episode import OBS
from simscaleai.storage.episodes import EpisodeSource, open_dataset
from simscaleai.tools.figures.dataset_figure import action_names, as_matrix, name_of
from simscaleai.tools.figures.style import CYCLE, new_figure, show_image, split, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

COLUMNS = 3
IMAGES = 8  # per camera
REWARD = "Reward"
UNITS = {
    "joint_pos": "rad",
    "joint_vel": "rad/s",
    "gripper_state": "m",
    "object_quat": "quaternion",
}
TITLES = {
    "joint_pos": "Joint positions",
    "joint_vel": "Joint velocities",
    "gripper_state": "Distance of the fingers",
    "object_quat": "Orientation of the object",
}


class _Panel(NamedTuple):
    """Curves in one set of axes."""

    title: str
    unit: str
    lines: ArrayDict  # {label: (T,)}
    held: bool = False  # draw steps: an action is held until the next one


@converted
@styled
def plot_trajectory(dataset: str | Path, episode: int = 0) -> Figure:
    """Draw one episode over time: images, positions, other observations, actions and rewards.

    Positions (`ee_pos` and alike) have one common panel per coordinate, which shows where hand, object and
    target coincide.

    Args:
      dataset: HDF5 file.
      episode: index of the episode, from 0.

    Raises:
      UserError: the file or the episode does not exist.
    """
    with (
        guarded(f"The dataset {dataset}", "run `simscale validate` on it"),
        open_dataset(dataset) as data,
    ):
        last = len(data) - 1
        if not 0 <= episode <= last:
            raise UserError(f"episode is {episode}; {data.path} has the episodes 0 to {last}.")
        length = data.episodes[episode].length
        if not length:
            raise UserError(
                f"{data.path}: {data.episodes[episode].name} has no steps; choose another by its episode."
            )
        contract = data.contract
        # files of other tools do not record the duration of a step
        seconds = contract.control_dt if contract is not None else 1.0
        unit = "time (s)" if contract is not None else "step"
        shown = np.unique(np.linspace(0, length - 1, IMAGES).round().astype(int)).tolist()
        strips = {
            key.removeprefix("images/"): [data.read(episode, OBS + key, t, t + 1)[0] for t in shown]
            for key in _image_keys(data, episode)
        }
        panels = _panels(data, episode)
        title = _title(data, episode, seconds if contract is not None else None)
        if not length:
            raise UserError(f"{data.path}: {data.episodes[episode].name} has no steps to draw.")

    rows = math.ceil(len(panels) / COLUMNS)
    heights = (1.5 * len(strips), 2.0 * rows)
    figure = new_figure(10.6, 0.5 + sum(heights), title)
    lower: Figure | SubFigure = figure
    if strips:
        upper, lower = split(figure, heights)
        _film(upper, strips, [f"{t * seconds:.3g}{' s' if contract else ''}" for t in shown])
    grid = lower.add_gridspec(rows, COLUMNS)
    axes = None
    for i, panel in enumerate(panels):
        row, column = divmod(i, COLUMNS)
        # the last panel fills its row
        place = slice(column, COLUMNS if i == len(panels) - 1 else column + 1)
        axes = lower.add_subplot(grid[row, place], sharex=axes)  # one time axis for all
        _draw(axes, np.arange(length) * seconds, panel)
        if i + COLUMNS >= len(panels):
            axes.set_xlabel(unit)
        if panel.title == REWARD:
            _fit_bonus(axes, panel.lines["reward"])
    return figure


def _observations(data: EpisodeSource, episode: int) -> list[str]:
    return [key.removeprefix(OBS) for key in data.keys(episode) if key.startswith(OBS)]


def _is_image(data: EpisodeSource, episode: int, key: str) -> bool:
    return is_image(key, data.shape(episode, OBS + key)[1:], data.dtype(episode, OBS + key))


def _image_keys(data: EpisodeSource, episode: int) -> list[str]:
    """Return the keys of images; `image`, a copy of the first camera's, only if it is the only one."""
    keys = [key for key in _observations(data, episode) if _is_image(data, episode, key)]
    several = any(key.startswith("images/") for key in keys)  # `image` would repeat one of them
    return [key for key in keys if key != "image" or not several]


def _panels(data: EpisodeSource, episode: int) -> list[_Panel]:
    vectors = {
        key: as_matrix(data.read(episode, OBS + key))
        for key in _observations(data, episode)
        if not _is_image(data, episode, key)
    }
    points = {k: v for k, v in vectors.items() if k.endswith("_pos") and v.shape[1] == 3}
    panels = []
    if points:
        # "ee" (end effector) is jargon of this package; the legend is for any reader
        names = {key: key.removesuffix("_pos").replace("ee", "hand") for key in points}
        for i, axis in enumerate("xyz"):
            lines = {names[key]: value[:, i] for key, value in points.items()}
            panels.append(_Panel(f"Position, {axis}", "m", lines))
    for key, value in vectors.items():
        if key not in points:
            title = TITLES.get(key, key)
            panels.append(_Panel(title, UNITS.get(key, "value"), _entries(key, value)))
    actions = as_matrix(data.read(episode, "actions"))
    entries = dict(zip(action_names(data, actions.shape[1]), actions.T, strict=True))
    panels.append(_Panel("Action", "fraction of its range", entries, held=True))
    if "rewards" in data.keys(episode):
        rewards = data.read(episode, "rewards")
        panels.append(_Panel(REWARD, "reward of the step", {"reward": rewards}, held=True))
    return panels


def _entries(key: str, value: Array) -> ArrayDict:
    width = value.shape[1]
    names = "wxyz" if key.endswith("quat") and width == 4 else range(1, width + 1)
    return {str(name): value[:, i] for i, name in enumerate(names)}


def _draw(axes: Axes, time: Array, panel: _Panel) -> None:
    style = "steps-post" if panel.held else "default"
    for i, (label, values) in enumerate(panel.lines.items()):
        color = CYCLE[i % len(CYCLE)]
        dashes = "--" if label == "target" else "-"  # a goal is no measured position
        axes.plot(time, values, dashes, color=color, label=label, drawstyle=style)
    axes.set(title=panel.title, ylabel=panel.unit)
    axes.margins(x=0.01)
    if len(panel.lines) > 1:
        # beside the curves, which it would cover inside the axes
        axes.legend(
            loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.0, labelspacing=0.3
        )


def _fit_bonus(axes: Axes, rewards: Array) -> None:
    """Scale the axis to all steps except a last one with a far larger reward, which is annotated."""
    before, last = rewards[:-1], float(rewards[-1])
    if len(before) and last > before.max() + 2 * np.ptp(before):
        room = 0.1 * (np.ptp(before) or 1.0)
        axes.set_ylim(before.min() - room, before.max() + room)
        axes.text(
            *(0.98, 0.06, f"last step: {last:.3g}"),
            transform=axes.transAxes,
            ha="right",
            fontsize=8,
        )


def _film(figure: SubFigure, strips: dict[str, list[Array]], times: list[str]) -> None:
    """Draw images of each camera in a row, with their times on top."""
    grid = figure.subplots(len(strips), len(times), squeeze=False)
    for row, (key, frames) in zip(grid, strips.items(), strict=True):
        for axes, pixels in zip(row, frames, strict=True):
            show_image(axes, pixels.squeeze())
        row[0].set_ylabel(key)
    for axes, time in zip(grid[0], times, strict=True):
        axes.set_title(time, loc="center")


def _title(data: EpisodeSource, episode: int, seconds: float | None) -> str:
    meta = data.episodes[episode]
    took = f"{meta.length} steps" + (f" ({meta.length * seconds:.3g} s)" if seconds else "")
    if meta.success is not None:
        took = f"{'success' if meta.success else 'failure'} after {took}"
    instruction = f"\n“{meta.language}”" if meta.language else ""
    return f"{name_of(data)}, episode {episode}: {took}{instruction}"
