"""Success of a policy over the levels of each axis of stress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simscaleai.evaluation.stress import StressedAxis, StressReport
from simscaleai.tools.figures.style import BLUE, GREY, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3


@styled
def plot_stress(report: StressReport) -> Figure:
    """Return one panel for each axis: success rate over levels with 95 % intervals, and the control's band.

    The intervals are Wilson's. Those of the differences, which are paired and narrower, are in the table.
    """
    axes = [axis for axis in report.axes if axis.arms]
    rows = max(1, -(-len(axes) // _COLUMNS))
    figure = new_figure(3.1 * _COLUMNS, 0.6 + 2.2 * rows, f"Stress of {report.policy}")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False, sharey=True).ravel()
    for panel, axis in zip(panels, axes, strict=False):
        draw_axis(panel, axis)
    for panel in panels[len(axes) :]:
        panel.set_visible(False)
    for panel in panels[::_COLUMNS]:
        panel.set_ylabel("success")
    return figure


def draw_axis(panel: Axes, axis: StressedAxis) -> None:
    """Draw the success rate over the levels of one axis, and the band of its control."""
    control, *arms = axis.arms
    low, high = control.success.interval
    panel.axhspan(low, high, color=GREY, alpha=0.18, linewidth=0)
    panel.axhline(control.success.rate, color=GREY, linestyle="--", label="control")
    # levels side by side: they are rarely evenly spaced
    positions = np.arange(1, len(arms) + 1)
    rates = np.array([arm.success.rate for arm in arms])
    ends = np.array([arm.success.interval for arm in arms]).T  # (2, levels)
    errors = np.abs(ends - rates)
    panel.errorbar(positions, rates, errors, marker="o", color=BLUE, capsize=3)
    panel.set_xticks(positions, [f"{arm.level:g}" for arm in arms])
    panel.set(title=axis.name, xlabel=axis.unit, ylim=(-0.03, 1.03), xlim=(0.5, len(arms) + 0.5))
