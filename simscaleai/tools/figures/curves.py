"""Curves of a run: how learning went."""

from __future__ import annotations

import itertools
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

SMOOTH = 50  # a smoothed curve averages over a fiftieth of the records on either side
REWARD = "reward/"
COLUMNS = 3


@styled
def plot_training(run: str | Path) -> Figure:
    """Loss, success in closed loop (or the error of the action), learning rate and speed of a training run.

    Args:
      run: its folder, or the name of one in `runs/`.

    Raises:
      UserError: there is no such run, it recorded nothing, or it is one of reinforcement learning.
    """
    metrics = read_metrics(run)
    if "loss" not in metrics.series:
        raise UserError(f"{metrics.folder} is not a training run; see it with `simscale viz-rl`.")
    model: Any = metrics.config.get("model")
    kind = f"{model['name']}: " if isinstance(model, dict) and "name" in model else ""
    figure = new_figure(8.4, 5.4, f"Training of {kind}{metrics.folder.name}")
    (loss, second), (rate, speed) = figure.subplots(2, 2, sharex=True)

    recorded = metrics.series["loss"]
    _smoothed(loss, recorded, "training", BLUE)
    if "eval_loss" in metrics.series:
        _points(loss, metrics.series["eval_loss"], "validation", RED)
    loss.set(title="Loss", ylabel="loss per sample")
    _log(loss, recorded)
    loss.legend()

    if "eval_success_rate" in metrics.series:
        _success(second, metrics.series["eval_success_rate"], _eval_episodes(metrics))
    else:
        others = [name for name in metrics.series if name in ("action_mae", "eval_action_mae")]
        for name, colour in zip(others, (BLUE, RED), strict=False):
            label = "validation" if name.startswith("eval_") else "training"
            _smoothed(second, metrics.series[name], label, colour)
        second.set(title="Error of the action", ylabel="mean absolute error")
        if others:
            second.legend()

    if (lr := metrics.get("lr")) is not None:
        rate.plot(lr.steps, lr.values, color=BLUE)
    rate.set(title="Learning rate", ylabel="learning rate", ylim=(0, None))
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)

    if (samples := metrics.get("samples_per_second")) is not None:
        _smoothed(speed, samples, "speed", BLUE)
    speed.set(title="Speed", ylabel="samples per second", ylim=(0, None))
    for axes in (rate, speed):
        axes.set_xlabel("optimizer steps")
    _finish([loss, second, rate, speed])
    return figure


@styled
def plot_rl(run: str | Path) -> Figure:
    """Plot return, success, length, the metrics that the agent names, and reward terms of a run of RL.

    Args:
      run: its folder, or the name of one in `runs/`.

    Raises:
      UserError: there is no such run, it recorded nothing, or it is a training run on a dataset.
    """
    metrics = read_metrics(run)
    if "timesteps" not in metrics.series:
        raise UserError(
            f"{metrics.folder} is not a run of reinforcement learning; see it with"
            " `simscale viz-training`."
        )
    agent: Any = metrics.config.get("agent")
    name = str(agent["name"]).upper() if isinstance(agent, dict) and "name" in agent else "RL"
    task = metrics.config.get("env_name")
    title = f"{name} on {task}" if task else name
    groups = metric_groups(metrics)
    n_rows = -(-(len(groups) + 4) // COLUMNS)  # return, success, length and reward terms besides
    figure = new_figure(10.6, 2.5 * n_rows, f"{title}: {metrics.folder.name}")
    panels = list(figure.subplots(n_rows, COLUMNS, sharex=True, squeeze=False).flat)
    _episodes(panels, metrics)
    for axes, group in zip(panels[3:], groups, strict=False):
        _group(axes, metrics, group)
    _reward_terms(panels[3 + len(groups)], metrics)
    for axes in panels[4 + len(groups) :]:
        axes.remove()
    used = panels[: 4 + len(groups)]
    for axes in used[-COLUMNS:]:  # the lowest of each column
        axes.set_xlabel("environment steps")
        axes.tick_params(labelbottom=True)
    _finish(used)
    return figure


def metric_groups(metrics: Metrics) -> list[MetricGroup]:
    """Return the groups of metrics that the run's agent has named; those that cannot be read are left out."""
    groups = []
    recorded = metrics.info.get("metric_groups")
    for values in recorded if isinstance(recorded, list) else ():
        if isinstance(values, dict):
            with suppress(UserError):
                groups.append(load_config(MetricGroup, **{str(k): v for k, v in values.items()}))
    return groups


def _episodes(panels: list[Axes], metrics: Metrics) -> None:
    """Draw what episodes of every agent have: return, success and length."""
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
    for (name, label), color in zip(present, itertools.cycle((BLUE, ORANGE, *CYCLE)), strict=False):
        _smoothed(axes, metrics.series[name], label, color)
        if group.log:
            _log(axes, metrics.series[name])
    axes.set(title=group.title, ylabel=group.ylabel)
    if group.from_zero:
        axes.set_ylim(0, None)
    if group.reference is not None:
        axes.axhline(group.reference, color="#9A9A9A", linewidth=0.8, linestyle="--", zorder=1)
    if len(present) > 1:
        axes.legend()


def smooth(values: FloatArray, width: int) -> FloatArray:
    """Means over `width` neighbours on either side, over fewer, equally many, near the ends: (m,)."""
    half = np.minimum(width, np.minimum(np.arange(len(values)), np.arange(len(values))[::-1]))
    total = np.concatenate(([0.0], np.cumsum(values)))
    index = np.arange(len(values))
    means: FloatArray = (total[index + half + 1] - total[index - half]) / (2 * half + 1)
    return means


def _smoothed(axes: Axes, series: Series, label: str, colour: str) -> None:
    """The curve as recorded, pale, and its mean over neighbours on top."""
    width = len(series.values) // SMOOTH
    if width:
        axes.plot(series.steps, series.values, color=colour, alpha=0.25, linewidth=0.9)
    axes.plot(series.steps, smooth(series.values, width), color=colour, label=label)


def _points(axes: Axes, series: Series, label: str, colour: str) -> None:
    """Evaluations: few, so each is a point."""
    axes.plot(series.steps, series.values, "o-", color=colour, markersize=3, label=label)


def _both(axes: Axes, metrics: Metrics, training: str, evaluation: str) -> None:
    """A number as it was in training, with exploration, and in evaluation, without."""
    if training in metrics.series:
        _smoothed(axes, metrics.series[training], "training", BLUE)
    if evaluation in metrics.series:
        _points(axes, metrics.series[evaluation], "evaluation", RED)
    if axes.lines:
        axes.legend()


def _success(axes: Axes, series: Series, episodes: int | None) -> None:
    """Success in percent, with its 95 % interval where the number of episodes is known."""
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
        axes.legend(loc="lower right")
    axes.set(title=title, ylabel="episodes (%)", ylim=(-3, 103))


def _log(axes: Axes, series: Series) -> None:
    """A logarithmic axis with plain numbers, for values that allow one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if (series.values > 0).all():
        axes.set_yscale("log")
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
        axes.legend(ncols=2)


def _eval_episodes(metrics: Metrics) -> int | None:
    """How many episodes an evaluation had, by the settings of either kind of run."""
    evaluation: Any = metrics.config.get("eval")
    nested = evaluation.get("env_episodes") if isinstance(evaluation, dict) else None
    found = nested or metrics.config.get("eval_episodes")
    return found if isinstance(found, int) and found > 0 else None


def _finish(panels: list[Axes]) -> None:
    from matplotlib.ticker import EngFormatter

    for axes in panels:
        if axes.get_yscale() == "linear" and axes.get_ylim()[1] >= 10_000:
            axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlim(0, None)
