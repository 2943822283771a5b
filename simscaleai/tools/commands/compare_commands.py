"""Policies against each other, and against changed conditions."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simscaleai.tools.app import RandomizeCommand, app, echo, examples
from simscaleai.tools.commands.options import (
    CameraPoses,
    EnvSettings,
    Randomize,
    RobotName,
    env_settings,
    names,
)

if TYPE_CHECKING:
    from simscaleai.evaluation.comparison import Comparison
    from simscaleai.evaluation.stress import StressArm, StressReport

SHOWN = 10  # differing episodes in the table; all are in the file


@app.command(
    "compare",
    cls=RandomizeCommand,
    epilog=examples(
        "simscale compare runs/old/final.pt runs/new/final.pt",
        "simscale compare runs/old runs/new --min-difference 0.02 --max-episodes 5000",
        "simscale compare scripted runs/a runs/b --videos 5 --output runs/against_expert",
    ),
)
def compare(
    policies: Annotated[
        list[str],
        typer.Argument(
            metavar="BASELINE CANDIDATE...",
            help="Checkpoints, folders or names of runs, scripted, random or module:function.",
        ),
    ],
    min_difference: Annotated[
        float,
        typer.Option(help="Differences of the success rate below this do not matter."),
    ] = 0.05,
    max_episodes: Annotated[
        int, typer.Option(min=1, help="Episodes after which the comparison ends undecided.")
    ] = 1000,
    alpha: Annotated[
        float, typer.Option(help="Largest probability of a wrong verdict, over all candidates.")
    ] = 0.05,
    env_name: Annotated[
        str | None,
        typer.Option(help="Environment; default: that of the checkpoints, or reach."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the episodes.")] = 0,
    num_envs: Annotated[
        int, typer.Option(min=1, help="Number of parallel environments of each policy.")
    ] = 32,
    robot: RobotName = None,
    env: EnvSettings = None,
    camera_pose: CameraPoses = None,
    randomize: Randomize = None,
    phrasings: Annotated[
        str,
        typer.Option(
            help="Phrasings of instructions: train; held_out, which no dataset contains; or, for tasks that"
            " hold combinations of words out (sort), new_combination."
        ),
    ] = "train",
    videos: Annotated[
        int,
        typer.Option(min=0, help="Number of differing episodes to film, policies side by side."),
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the results; default: one of runs/compare."),
    ] = None,
) -> None:
    """Compare policies on the same episodes, and stop as soon as the verdict is safe."""
    from simscaleai.evaluation.compare import CompareSettings, compare_policies

    settings = CompareSettings(
        min_difference=min_difference,
        max_episodes=max_episodes,
        alpha=alpha,
        seed=seed,
        env_name=env_name,
        robot=robot,
        env_kwargs=env_settings(env, camera_pose),
        randomize=randomize,
        phrasings=phrasings,
        num_envs=num_envs,
        output_dir=None if output is None else str(output),
        videos=videos,
    )
    # the report is written whatever the verdict; the verdict is no exit code
    report = compare_policies(policies, settings)
    for comparison in report.comparisons:
        _print_comparison(comparison, min_difference)
    from simscaleai.tools.report.compare_report import write_compare_report

    echo(f"Report: {write_compare_report(report)}")
    echo(f"Results: {report.output_dir}")


def _print_comparison(found: Comparison, min_difference: float) -> None:
    """Print a verdict, the numbers behind it, and the episodes that differ."""
    from simscaleai.tools.console import table

    rows = [
        ("verdict", found.sentence(min_difference)),
        ("baseline", found.baseline),
        ("candidate", found.candidate),
        ("episodes of each", str(found.n_episodes)),
        ("baseline succeeds", found.baseline_success.text()),
        ("candidate succeeds", found.candidate_success.text()),
        (
            "difference",
            f"{100 * found.difference:+.1f} % ({100 * found.interval[0]:+.1f} to"
            f" {100 * found.interval[1]:+.1f}, p = {found.p_value:.3g}, at any time)",
        ),
        # narrower, since it counts on one look at the end; not valid for a comparison that may stop early
        (
            "if the number of episodes had been fixed",
            f"{100 * found.newcombe_interval[0]:+.1f} to {100 * found.newcombe_interval[1]:+.1f} %,"
            f" McNemar p = {found.mcnemar_p_value:.3g}",
        ),
        ("only the baseline succeeds", f"{found.pairs.only_first} episodes"),
        ("only the candidate succeeds", f"{found.pairs.only_second} episodes"),
        ("correlation of outcomes", f"{found.correlation:.2f}"),
    ]
    # of metrics other than success, as a mean over the same episodes
    rows += [
        (
            {"reward": "return", "stage": "stage reached"}.get(name, name),
            f"{change.baseline:.4g} to {change.candidate:.4g}: {change.difference:+.3g}"
            f" ({change.interval[0]:+.3g} to {change.interval[1]:+.3g}, p = {change.p_value:.3g})",
        )
        for name, change in found.changes.items()
    ]
    table("Comparison", ["what", "value"], rows)
    if found.differing:
        shown = found.differing[:SHOWN]
        total = len(found.differing)
        more = f", the first {len(shown)} of {total}" if len(shown) < total else ""
        table(
            f"Episodes that differ{more}",
            ("episode", "baseline", "candidate"),
            [(str(e.index), e.baseline, e.candidate) for e in shown],
        )
    for path in found.videos:
        echo(f"video: {path}")


@app.command(
    "stress",
    cls=RandomizeCommand,
    epilog=examples(
        "simscale stress runs/a/final.pt",
        "simscale stress runs/a --axes friction,mass --n-episodes 300",
        "simscale stress runs/a --axes action-delay --levels 1,2,3,4,5,6",
        "simscale stress scripted --env-name pick_place",
    ),
)
def stress(
    policy: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Checkpoint, or the folder or name of a run; also scripted, random or module:function.",
        ),
    ],
    axes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Axes, such as friction,camera; default: all that concern the policy.",
        ),
    ] = None,
    levels: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBERS", help="Levels of a single axis, such as 0.5,1,2."),
    ] = None,
    n_episodes: Annotated[int, typer.Option(min=1, help="Number of episodes of each level.")] = 100,
    env_name: Annotated[
        str | None,
        typer.Option(help="Environment; default: that of the checkpoint, or reach."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the episodes.")] = 0,
    num_envs: Annotated[
        int | None, typer.Option(min=1, help="Number of parallel environments.")
    ] = None,
    robot: RobotName = None,
    env: EnvSettings = None,
    camera_pose: CameraPoses = None,
    randomize: Randomize = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the results; default: one of runs/stress."),
    ] = None,
) -> None:
    """Measure a policy under one change at a time, each in levels and with a matched control."""
    from simscaleai.convert import convert
    from simscaleai.evaluation.stress import StressSettings, stress_policy

    settings = StressSettings(
        axes=names(axes),
        levels=[convert(level, float, "A level") for level in names(levels)],
        n_episodes=n_episodes,
        seed=seed,
        env_name=env_name,
        robot=robot,
        env_kwargs=env_settings(env, camera_pose),
        randomize=randomize,
        num_envs=num_envs,
        output_dir=None if output is None else str(output),
    )
    report = stress_policy(policy, settings)
    _print_stress(report)
    if find_spec("matplotlib") is not None:  # without the extra `viz`, the table is all
        from simscaleai.tools.figures.stress_curves import plot_stress
        from simscaleai.tools.figures.style import save_or_show

        save_or_show(plot_stress(report), Path(report.output_dir) / "stress.png")
    from simscaleai.tools.report.stress_report import write_stress_report

    echo(f"Report: {write_stress_report(report)}")
    echo(f"Results: {report.output_dir}")


def _print_stress(report: StressReport) -> None:
    """Print a line for each level, and the axes that mean nothing for the policy."""
    from simscaleai.evaluation.following import LABELS
    from simscaleai.tools.console import table

    for axis in report.axes:
        if not axis.arms:  # excluded, see below
            continue
        columns = [f"level ({axis.unit})", "success", "against control", "failures"]
        # only tasks with several instructions say which object was approached
        if any(arm.following for arm in axis.arms):
            columns.append(LABELS["approached_right"])
        # the last cell belongs to the column that may be missing
        rows = [_stress_row(arm)[: len(columns)] for arm in axis.arms]
        table(f"{axis.name}, {report.settings.n_episodes} episodes each", columns, rows)
    for axis in report.axes:
        for name, counts in axis.strict.items():
            echo(f"{axis.name}: {counts['count']} of {counts['n']} {LABELS[name]}")
        if axis.excluded:
            echo(f"{axis.name}: left out, {axis.excluded}")


def _stress_row(arm: StressArm) -> tuple[str, ...]:
    """Return the cells of one level."""
    from simscaleai.tools.console import text

    low, high = arm.interval
    against = f"{100 * arm.difference:+.1f} % ({100 * low:+.1f} to {100 * high:+.1f})"
    right = arm.following.get("approached_right")
    return (
        f"{arm.level:g}" if arm.level else "control",  # level 0 changes nothing
        arm.success.text(),
        against if arm.level else "",
        text("", arm.failure_stages),
        text("_rate", right["rate"]) if right else "",
    )
