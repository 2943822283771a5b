"""The report of a stress test."""

from __future__ import annotations

from pathlib import Path

from simscaleai.evaluation.report_folder import short_names
from simscaleai.evaluation.stress import StressArm, StressedAxis, StressReport
from simscaleai.tools.report.report_figures import can_draw, medium, plot_stressed_axis
from simscaleai.tools.report.report_page import (
    REPORT,
    Figures,
    Rates,
    Report,
    Section,
    Table,
    VerdictBox,
    write_report,
)
from simscaleai.tools.report.report_parts import (
    command_line,
    funnel,
    origin,
    training_sections,
)

ALPHA = 0.05
"""Probability that any level of any axis is called worse by chance."""


def write_stress_report(found: StressReport) -> Path:
    """Write the report into the folder of the stress test; return its path."""
    axes = [axis for axis in found.axes if axis.arms]  # the others were left out, with a reason
    sections: list[Section] = []
    if can_draw():
        media = tuple(medium(plot_stressed_axis(axis), _description(axis)) for axis in axes)
        note = "Blue: success at each level. Gray: the control, which runs the same episodes unchanged."
        sections.append(Figures("Success over the levels of each axis", media, note))
    sections += [_levels(axis) for axis in axes]
    if axes:
        # the first arm is the control, and all axes share its episodes
        control = axes[0].arms[0]
        sections.append(Rates("Control", (("unchanged episodes", control.success),)))
        stages = list(dict.fromkeys(s for a in axes for arm in a.arms for s in arm.failure_stages))
        # one funnel, of the worst: one for each level would be pages
        worst = max(axes, key=lambda axis: -min(arm.difference for arm in axis.arms))
        arm = min(worst.arms, key=lambda arm: arm.difference)
        title = f"Where episodes fail at {worst.name} {arm.level:g}, the largest drop"
        sections.append(funnel(title, arm.episodes, stages))
    excluded = tuple((axis.name, axis.excluded) for axis in found.axes if axis.excluded)
    sections.append(Table("Axes that were left out", ("axis", "reason"), excluded))
    name = short_names([found.policy])[0]
    sections += training_sections({name: found.policy})
    sections += origin(command_line("stress", [found.policy], found.settings), found.settings)
    n = found.settings.n_episodes
    subtitle = f"{n} episodes of suite {found.settings.seed} in {found.env_name}, at each level of each axis"
    report = Report(f"Stress test of {name}", subtitle, (_verdict(axes),), sections)
    path = Path(found.output_dir) / REPORT
    write_report(path, report)
    return path


def _description(axis: StressedAxis) -> str:
    """Return what an axis changes; its docstring sets names in backquotes."""
    return axis.description.replace("`", "")


def _verdict(axes: list[StressedAxis]) -> VerdictBox:
    """Say which axes lower the success rate, with a correction for the number of levels."""
    # the control is no test
    levels = sum(len(axis.arms) - 1 for axis in axes)
    drops = [(axis, arm) for axis in axes if (arm := _first_drop(axis, ALPHA / max(levels, 1)))]
    detail = (
        f"An axis is named if the exact McNemar test against its control rejects equal success at"
        f" {100 * ALPHA:g} % / {levels} levels (Bonferroni)."
    )
    if not drops:
        return VerdictBox("good", f"No drop was found on {len(axes)} axes", detail)
    found = "; ".join(
        f"{axis.name} from level {arm.level:g} ({100 * arm.difference:+.0f} %)"
        for axis, arm in drops
    )
    headline = f"Success falls on {len(drops)} of {len(axes)} axes"
    return VerdictBox("bad", headline, f"{found}. {detail}")


def _first_drop(axis: StressedAxis, alpha: float) -> StressArm | None:
    """Return the lowest level whose success rate is significantly below the control's."""
    return next((arm for arm in axis.arms[1:] if arm.difference < 0 and arm.p_value <= alpha), None)


def _levels(axis: StressedAxis) -> Table:
    rows = []
    for arm in axis.arms:
        low, high = arm.interval
        change = f"{100 * arm.difference:+.1f} % ({100 * low:+.1f} to {100 * high:+.1f})"
        stages = ", ".join(f"{stage} {count}" for stage, count in arm.failure_stages.items())
        level = f"{arm.level:g}" if arm.level else "control"
        rows.append(
            (level, arm.success.text(), change if arm.level else "", f"{arm.p_value:.2g}", stages)
        )
    strict = ". ".join(
        f"{name.replace('_', ' ')}: {share['count']} of {share['n']} scenes"
        for name, share in axis.strict.items()
    )
    note = f"{_description(axis)} {strict}".strip()
    columns = (f"level ({axis.unit})", "success", "against control", "p", "failures")
    return Table(axis.name, columns, tuple(rows), note)
