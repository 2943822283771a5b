"""Figures of the metrics of a run over its steps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simscaleai.array_types import FloatArray
from simscaleai.config import load_config
from simscaleai.errors import UserError
from simscaleai.evaluation.statistics import wilson_interval
from simscaleai.rl.agents.metric_group import MetricGroup
from simscaleai.tools.figures.metrics import Metrics, Series, read_metrics
from simscaleai.tools.figures.style import (
    BLUE,
    CYCLE,
    GREEN,
    ORANGE,
    RED,
    new_figure,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMOOTH = 50  # a smoothed curve averages over 1/50 of the records on each side
REWARD = "reward/"
COLUMNS = 3
_SHORT = 22  # letters of a label, of which two fit below a panel


@styled
def plot_training(run: str | Path) -> Figure:
    """Plot loss, success rate (or action error), learning rate and speed of a training run.

    Several runs are drawn by `run_groups.plot_several`.

    Args:
      run: folder of the run, or its name in `runs/`.

    Raises:
      UserError: the run does not exist, recorded nothing, or is one of reinforcement learning.
    """
    metrics = read_metrics(run)
    if "loss" not in metrics.series:
        raise UserError(f"{metrics.folder} is not a training run; see it with `simscale viz-rl`.")
    model = metrics.config.get("model")
    kind = f"{model['name']}: " if isinstance(model, dict) and "name" in model else ""
    figure = new_figure(8.4, 5.7, f"Training of {kind}{metrics.folder.name}")
    (loss, second), (rate, speed) = figure.subplots(2, 2, sharex=True)

    draw_loss(loss, metrics)
    draw_success_or_error(second, metrics)
    if (lr := metrics.get("lr")) is not None:
        rate.plot(lr.steps, lr.values, color=BLUE)
    rate.set(title="Learning rate", ylabel="learning rate", ylim=(0, None))
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))

    if (samples := metrics.get("samples_per_second")) is not None:
        _smoothed(speed, samples, "speed", BLUE)
    speed.set(title="Speed", ylabel="samples per second", ylim=(0, None))
    for axes in (rate, speed):
        axes.set_xlabel("optimizer steps")
    finish([loss, second, rate, speed])
    legends_below([loss, second])
    return figure


def draw_loss(axes: Axes, metrics: Metrics) -> None:
    """Draw the loss in training and, if recorded, in validation."""
    recorded = metrics.series["loss"]
    _smoothed(axes, recorded, "training", BLUE)
    if "eval_loss" in metrics.series:
        _points(axes, metrics.series["eval_loss"], "validation", RED)
    axes.set(title="Loss", ylabel="loss per sample")
    log_axis(axes, recorded)  # losses fall by orders of magnitude
    axes.legend()


def draw_success_or_error(axes: Axes, metrics: Metrics) -> None:
    """Draw the success rate in closed loop, or the error of the action where it was not evaluated."""
    if "eval_success_rate" in metrics.series:
        _success(axes, metrics.series["eval_success_rate"], _eval_episodes(metrics))
        return
    others = [name for name in metrics.series if name in ("action_mae", "eval_action_mae")]
    for name, color in zip(others, (BLUE, RED), strict=False):
        label = "validation" if name.startswith("eval_") else "training"
        _smoothed(axes, metrics.series[name], label, color)
    axes.set(title="Error of the action", ylabel="mean absolute error")
    if others:
        axes.legend()


@styled
def plot_rl(run: str | Path) -> Figure:
    """Plot return, success, episode length, the agent's metric groups and the reward terms of an RL run.

    Args:
      run: folder of the run, or its name in `runs/`.

    Raises:
      UserError: the run does not exist, recorded nothing, or is a training run on a dataset.
    """
    metrics = read_metrics(run)
    if "timesteps" not in metrics.series:
        raise UserError(
            f"{metrics.folder} is not a run of reinforcement learning; see it with"
            " `simscale viz-training`."
        )
    agent = metrics.config.get("agent")
    name = str(agent["name"]).upper() if isinstance(agent, dict) and "name" in agent else "RL"
    task = metrics.config.get("env_name")
    title = f"{name} on {task}" if task else name
    groups = metric_groups(metrics)
    n_rows = -(-(len(groups) + 4) // COLUMNS)  # plus return, success, length and reward terms
    figure = new_figure(10.6, 2.75 * n_rows, f"{title}: {metrics.folder.name}")
    panels = list(figure.subplots(n_rows, COLUMNS, sharex=True, squeeze=False).flat)
    _episodes(panels, metrics)
    for axes, group in zip(panels[3:], groups, strict=False):
        _group(axes, metrics, group)
    _reward_terms(panels[3 + len(groups)], metrics)
    for axes in panels[4 + len(groups) :]:
        axes.remove()
    used = panels[: 4 + len(groups)]
    for axes in used[-COLUMNS:]:  # the lowest panel of each column
        axes.set_xlabel("environment steps")
        axes.tick_params(labelbottom=True)
    finish(used)
    legends_below(used)
    return figure


def metric_groups(metrics: Metrics) -> list[MetricGroup]:
    """Return the metric groups recorded for the run's agent, without those that cannot be read."""
    groups = []
    recorded = metrics.info.get("metric_groups")
    for values in recorded if isinstance(recorded, list) else ():
        if isinstance(values, dict):
            with suppress(UserError):  # written by another version
                groups.append(load_config(MetricGroup, **{str(k): v for k, v in values.items()}))
    return groups


def _episodes(panels: list[Axes], metrics: Metrics) -> None:
    """Draw return, success and length of episodes, which every agent records."""
    returns, success, length = panels[:3]
    _both(returns, metrics, "episode_reward", "eval_mean_reward")
    returns.set(title="Return", ylabel="sum of rewards of an episode")
    if "eval_success_rate" in metrics.series:
        _success(success, metrics.series["eval_success_rate"], _eval_episodes(metrics))
    elif "success_rate" in metrics.series:
        series = metrics.series["success_rate"]
        _smoothed(success, Series(series.steps, 100 * series.values), "training", BLUE)
        success.set(title="Success in training", ylabel="episodes (%)", ylim=(-3, 103))
    _both(length, metrics, "episode_length", "eval_mean_length")
    length.set(title="Length of an episode", ylabel="control steps", ylim=(0, None))


def _group(axes: Axes, metrics: Metrics, group: MetricGroup) -> None:
    """Draw a group of an agent's metrics in its panel."""
    present = [(name, label) for name, label in group.labels.items() if name in metrics.series]
    # the palette repeats: a user's agent may name more metrics than it has colors
    for (name, label), color in zip(present, itertools.cycle((BLUE, ORANGE, *CYCLE)), strict=False):
        _smoothed(axes, metrics.series[name], label, color)
        if group.log:
            log_axis(axes, metrics.series[name])
    axes.set(title=group.title, ylabel=group.ylabel)
    if group.from_zero:
        axes.set_ylim(0, None)
    if group.reference is not None:
        axes.axhline(group.reference, color="#9A9A9A", linewidth=0.8, linestyle="--", zorder=1)
    if len(present) > 1:
        axes.legend()


def smooth(values: FloatArray, width: int) -> FloatArray:
    """Return means over `width` neighbors on each side, (m,); near the ends over fewer, equally many.

    Equal numbers on both sides keep the smoothed curve from lagging behind at its ends.
    """
    half = np.minimum(width, np.minimum(np.arange(len(values)), np.arange(len(values))[::-1]))
    total = np.concatenate(([0.0], np.cumsum(values)))  # (m + 1,), sums of the first k values
    index = np.arange(len(values))
    means: FloatArray = (total[index + half + 1] - total[index - half]) / (2 * half + 1)
    return means


def _smoothed(axes: Axes, series: Series, label: str, color: str) -> None:
    """Draw the recorded curve in a pale color, and its smoothed form on top."""
    width = len(series.values) // SMOOTH
    if width:
        axes.plot(series.steps, series.values, color=color, alpha=0.25, linewidth=0.9)
    style = "-" if len(series.values) > 1 else "o"  # a line through one point shows nothing
    axes.plot(
        series.steps, smooth(series.values, width), style, color=color, label=label, markersize=3
    )


def _points(axes: Axes, series: Series, label: str, color: str) -> None:
    """Draw a curve with a marker for each value: evaluations are few."""
    axes.plot(series.steps, series.values, "o-", color=color, markersize=3, label=label)


def _both(axes: Axes, metrics: Metrics, training: str, evaluation: str) -> None:
    """Draw a metric in training (with exploration) and in evaluation (without)."""
    if training in metrics.series:
        _smoothed(axes, metrics.series[training], "training", BLUE)
    if evaluation in metrics.series:
        _points(axes, metrics.series[evaluation], "evaluation", RED)
    if axes.lines:
        axes.legend()


def _success(axes: Axes, series: Series, episodes: int | None) -> None:
    """Draw the success rate in percent, with its 95 % interval if the number of episodes is known."""
    _points(axes, Series(series.steps, 100 * series.values), "success", GREEN)
    title = "Success in closed loop"
    if episodes:
        counts = [round(rate * episodes) for rate in np.clip(series.values, 0, 1)]
        low, high = np.array([wilson_interval(k, episodes) for k in counts]).T
        label = "95 % interval (Wilson)"
        axes.fill_between(
            series.steps, 100 * low, 100 * high, color=GREEN, alpha=0.18, linewidth=0, label=label
        )
        title = f"Success of {episodes} episodes in closed loop"
        axes.legend()
    axes.set(title=title, ylabel="episodes (%)", ylim=(-3, 103))


def log_axis(axes: Axes, series: Series) -> None:
    """Make the y axis logarithmic, with plain numbers as labels, if all values are positive."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if (series.values > 0).all():
        axes.set_yscale("log")
        # fewer than two decades: powers of ten alone would be too few labels
        narrow = series.values.max() < 100 * series.values.min()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _reward_terms(axes: Axes, metrics: Metrics) -> None:
    terms = [name for name in metrics.series if name.startswith(REWARD)]
    for i, name in enumerate(terms):
        _smoothed(axes, metrics.series[name], name.removeprefix(REWARD), CYCLE[i % len(CYCLE)])
    axes.set(title="Terms of the reward", ylabel="mean per step, unweighted")
    if terms:
        axes.legend()


def _eval_episodes(metrics: Metrics) -> int | None:
    """Return the number of episodes of an evaluation; None if the settings do not contain it."""
    # imitation has `eval.env_episodes`, reinforcement learning `eval_episodes`
    evaluation = metrics.config.get("eval")
    nested = evaluation.get("env_episodes") if isinstance(evaluation, dict) else None
    found = nested or metrics.config.get("eval_episodes")
    return found if isinstance(found, int) and found > 0 else None


def finish(panels: list[Axes]) -> None:
    """Start the steps at 0, and write large numbers as 250k."""
    from matplotlib.ticker import EngFormatter

    for axes in panels:
        if axes.get_yscale() == "linear" and axes.get_ylim()[1] >= 10_000:
            axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlim(0, None)


def legends_below(panels: Sequence[Axes]) -> None:
    """Move legends below their panels, where they cover no curve; for after labels are set."""
    from matplotlib.transforms import ScaledTranslation

    for axes in panels:
        if axes.get_legend() is None:
            continue
        labels = axes.get_legend_handles_labels()[1]
        # points; numbers and label of the axis come first, where a panel has them
        down = 30 if axes.get_xlabel() else 7
        shift = ScaledTranslation(0, -down / 72, axes.figure.dpi_scale_trans)
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(0, 0),
            bbox_transform=axes.transAxes + shift,
            ncols=2 if max(map(len, labels)) <= _SHORT else 1,
            borderaxespad=0,
            handlelength=1.5,
        )
