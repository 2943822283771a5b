"""Figure of a dataset: distributions over all its episodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simscaleai.array_types import Array, BoolArray
from simscaleai.errors import UserError
from simscaleai.guards import guarded
from simscaleai.storage.episodes import EpisodeSource, open_dataset
from simscaleai.tools.figures.style import BLUE, RED, new_figure, split, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 30
LARGEST = 1e30  # limit of values that matplotlib can draw


class _Group(NamedTuple):
    """Episodes with one color."""

    label: str
    color: str
    members: BoolArray  # (episodes,)


@styled
def plot_dataset(dataset: str | Path) -> Figure:
    """Draw histograms of episode lengths, returns, rewards and the entries of the action.

    If the file records success and some episodes failed, successful and failed episodes have different
    colors.

    Args:
      dataset: HDF5 file.

    Raises:
      UserError: the file does not exist or is no dataset.
    """
    with (
        guarded(f"The dataset {dataset}", "run `simscale validate` on it"),
        open_dataset(dataset) as data,
    ):
        everything = data.split("all")  # does not include empty episodes
        if not everything:
            raise UserError(f"{data.path} has no episode with a step; there is nothing to plot.")
        lengths = np.array([data.episodes[i].length for i in everything])
        success = [data.episodes[i].success for i in everything]
        # (steps, action_dim)
        actions = np.concatenate([as_matrix(data.read(i, "actions")) for i in everything])
        rewarded = all("rewards" in data.keys(i) for i in everything)
        rewards = [data.read(i, "rewards") for i in everything] if rewarded else []
        names = action_names(data, actions.shape[1])
        units = action_units(data, actions.shape[1])
        title = f"{name_of(data)}: {len(everything):,} episodes, {lengths.sum():,} steps"
        require_drawable(
            data, {"actions": actions, "rewards": np.concatenate(rewards or [np.empty(0)])}
        )
    groups = _groups(success)
    if None not in success:
        title += f", {100 * np.mean([bool(s) for s in success]):.1f} % successful"

    columns = min(len(names), 4)
    below = math.ceil(len(names) / columns)
    figure = new_figure(9.6, 2.7 + 2.3 * below, title)
    upper, lower = split(figure, (2.7, 2.3 * below))
    length, total, step = upper.subplots(1, 3)
    _stacked(length, lengths, groups)
    length.set(title="Length", xlabel="control steps", ylabel="episodes")
    if len(groups) > 1:
        length.legend()
    if rewarded:
        _stacked(total, np.array([float(r.sum()) for r in rewards]), groups)
        _percentages(step, np.concatenate(rewards))
        total.set(title="Return", xlabel="sum of an episode's rewards", ylabel="episodes")
        step.set(title="Reward", xlabel="reward of a step", ylabel="steps (%)")
    else:
        total.remove()
        step.remove()
    panels = lower.subplots(below, columns, sharey=True, squeeze=False).ravel()
    # one range for all entries, so that their histograms can be compared
    limit = max(1.0, float(np.abs(actions).max()))
    for i, axes in enumerate(panels):
        if i >= len(names):
            axes.remove()
            continue
        _percentages(axes, actions[:, i], (-limit, limit))
        axes.set(title=f"Action, entry {i}" if names[i] == str(i) else f"Action: {names[i]}")
        axes.set_xlabel(units[i])
        if i % columns == 0:
            axes.set_ylabel("steps (%)")
    return figure


def require_drawable(data: EpisodeSource, arrays: Mapping[str, Array]) -> None:
    """Raise UserError if an array contains values that cannot be drawn on an axis."""
    for name, values in arrays.items():
        if not (np.abs(values) < LARGEST).all():  # `not <`: NaN compares as False
            raise UserError(
                f"{data.path}: {name} has values that cannot be drawn (NaN, infinite or above {LARGEST:g});"
                " run `simscale validate` on it."
            )


def name_of(data: EpisodeSource) -> str:
    """Return the environment of a dataset, or the name of its file if it does not record one."""
    contract = data.contract
    return contract.env_name if contract is not None else Path(data.path).name


def action_names(data: EpisodeSource, width: int) -> list[str]:
    """Return the names of the entries of the action; their indices if the file does not record names."""
    names = () if data.contract is None else data.contract.action_names
    return list(names) if len(names) == width else [str(i) for i in range(width)]


def action_units(data: EpisodeSource, width: int) -> list[str]:
    """Return the unit of each entry of the action; "value" if the file does not record it."""
    units = () if data.contract is None else data.contract.action_units
    return list(units) if len(units) == width else ["value"] * width


def as_matrix(values: Array) -> Array:
    """Return values (T, ...) as (T, d)."""
    return values.reshape(len(values), -1)


def _groups(success: list[bool | None]) -> list[_Group]:
    known = np.array([s is not None for s in success])
    won = np.array([bool(s) for s in success])
    if not known.all() or won.all() or not won.any():  # nothing to tell apart
        return [_Group("", BLUE, np.ones(len(won), dtype=bool))]
    return [_Group("succeeded", BLUE, won), _Group("failed", RED, ~won)]


def _stacked(axes: Axes, values: Array, groups: list[_Group]) -> None:
    """Draw a histogram of values (episodes,), stacked by group."""
    edges: Array = np.histogram_bin_edges(values, BINS)
    if values.dtype.kind == "i":  # bins of integer width, centered on integers
        width = max(1, math.ceil((np.ptp(values) + 1) / BINS))
        edges = np.arange(values.min(), values.max() + width + 1, width) - 0.5
    axes.hist(
        [values[group.members] for group in groups],
        bins=edges.tolist(),
        stacked=True,
        color=[group.color for group in groups],
        label=[group.label for group in groups],
    )
    axes.grid(False, axis="x")


def _percentages(axes: Axes, values: Array, limits: tuple[float, float] | None = None) -> None:
    """Draw a histogram of values (steps,) in percent of the steps."""
    weights = np.full(len(values), 100 / len(values))
    axes.hist(values, bins=BINS, range=limits, weights=weights, color=BLUE)
    axes.grid(False, axis="x")
