"""Policies in closed loop."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simscaleai.errors import UnsavedResults, UserError
from simscaleai.tools.app import RandomizeCommand, app, echo, examples
from simscaleai.tools.commands.options import (
    CameraPoses,
    EnvSettings,
    Executor,
    Instruction,
    Randomize,
    RobotName,
    Workers,
    env_settings,
)

if TYPE_CHECKING:
    from simscaleai.evaluation.summary import Metrics

MANY = 10_000  # episodes at most with --until-interval


@app.command(
    "eval",
    cls=RandomizeCommand,
    epilog=examples(
        "simscale eval checkpoints/final.pt",
        "simscale eval checkpoints/final.pt --n-episodes 1000 --seed 7",
        "simscale eval checkpoints/final.pt --randomize heavy --output runs/heavy",
        "simscale eval checkpoints/final.pt --phrasings held_out --every-instruction",
        "simscale eval runs/vla_pick_place_color --instruction 'pick up the red cube'",
        "simscale eval checkpoints/final.pt --until-interval 0.05 --videos failures",
        "simscale eval runs/*/final.pt --resume --report --output runs/all",
        "simscale eval checkpoints/final.pt --n-episodes 10000 --workers 8 --executor ray",
        "simscale eval scripted --env-name pick_place",
    ),
)
def evaluate(
    policies: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT",
            help="Checkpoint, or the folder or name of a run; also scripted, random, module:function or"
            " ws://HOST:PORT. May be several.",
        ),
    ],
    env_name: Annotated[
        str | None,
        typer.Option(help="Environment; default: that of the checkpoint, or reach."),
    ] = None,
    robot: RobotName = None,
    env: EnvSettings = None,
    camera_pose: CameraPoses = None,
    n_episodes: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"Number of episodes; default: 100, at most {MANY:,} with --until-interval."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the episodes.")] = 0,
    num_envs: Annotated[
        int | None, typer.Option(min=1, help="Number of parallel environments.")
    ] = None,
    randomize: Randomize = None,
    phrasings: Annotated[
        str,
        typer.Option(
            help="Phrasings of instructions: train; held_out, which no dataset contains; or, for tasks that"
            " hold combinations of words out (sort), new_combination."
        ),
    ] = "train",
    instruction: Instruction = None,
    every_instruction: Annotated[
        bool,
        typer.Option(
            "--every-instruction",
            help="Run each of the N episodes once for every instruction of the task, and count how often all"
            " were followed.",
        ),
    ] = False,
    until_interval: Annotated[
        float | None,
        typer.Option(
            metavar="WIDTH",
            help="Stop when the 95 % interval of the success rate is this narrow, such as 0.05.",
        ),
    ] = None,
    videos: Annotated[
        str | None,
        typer.Option(metavar="failures|all", help="Film the first episodes that failed, or all."),
    ] = None,
    max_videos: Annotated[int, typer.Option(min=1, help="Number of videos.")] = 5,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Keep the results of evaluations that are finished; an unfinished one always resumes.",
        ),
    ] = False,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Also write report.html beside the results, with failure stages and videos of failures.",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the results; default: that of the checkpoint, and none for other policies.",
        ),
    ] = None,
    workers: Workers = 1,
    executor: Executor = None,
) -> None:
    """Measure the success rate of policies in closed loop."""
    from simscaleai.evaluation.evaluate_source import SourceEvaluation, evaluate_source
    from simscaleai.evaluation.path_recorder import PathRecorder
    from simscaleai.tools.console import finish

    start = time.perf_counter()

    # with --until-interval, the interval decides, and the number is only a limit
    default = 100 if until_interval is None else MANY
    settings = SourceEvaluation(
        n_episodes=default if n_episodes is None else n_episodes,
        seed=seed,
        env_name=env_name,
        num_envs=num_envs,
        randomize=randomize,
        phrasings=phrasings,
        instruction=instruction,
        every_instruction=every_instruction,
        until_interval=until_interval,
        videos=videos,
        max_videos=max_videos,
        resume=resume,
        output_dir=None if output is None else str(output),
        robot=robot,
        env_kwargs=env_settings(env, camera_pose),
        workers=workers,
        executor=executor,
    )
    if report and output is not None:
        from simscaleai.tools.report.report_page import REPORT, check_report_path

        check_report_path(output / REPORT)  # before the first episode
    # a policy that cannot be loaded does not end the evaluation of the others
    found: list[Metrics] = []
    paths: list[PathRecorder] = []
    problems: list[UserError] = []
    for policy in policies:
        try:
            # paths are drawn in the report alone; recording costs a copy at each step
            recorders = [PathRecorder()] if report else []
            found.append(evaluate_source(policy, settings, recorders))
            paths += recorders
        except UnsavedResults as error:
            # measured and not written, as on a full disk: the numbers are printed all the same
            found.append({**error.results, "output_path": None})
            paths += recorders
            problems.append(error)
        except UserError as error:
            if len(policies) == 1:
                raise
            problems.append(error)  # the other policies may work
    if len(policies) == 1:
        _print(dict(found[0]))  # it takes entries out
    else:
        _print_all(found)
    if report and found:
        from simscaleai.tools.report.eval_report import report_path, write_eval_report

        path = report_path(found[0], settings)
        write_eval_report(path, found, settings, paths)
        echo(f"Report: {path}")
    finish(time.perf_counter() - start, *_next(found))
    if problems:  # after the tables, so that no finished evaluation is lost
        raise UserError(" ".join(map(str, problems)))


def _next(found: Sequence[Metrics]) -> list[str]:
    """Return the command that shows what a single policy failed at."""
    if len(found) != 1 or not found[0]["failure_stages"]:
        return []
    result = found[0]
    # viz-video could not show these episodes
    if (
        result.get("env_kwargs")
        or result["phrasings"] != "train"
        or result.get("every_instruction")
    ):
        return []
    words = ["simscale", "viz-video", "--policy", result["checkpoint"]]
    if result["trained_on"] != result["env_name"]:
        words += ["--env-name", result["env_name"]]
    # as far as the episodes depend on them: others would end otherwise
    for flag in ("seed", "robot", "randomize", "instruction"):
        if result.get(flag):
            words += [f"--{flag}", str(result[flag])]
    return [shlex.join([*words, "--only", "failures", "--save", "failures.mp4"])]


def _print(result: Metrics) -> None:
    """Print the results of one evaluation."""
    from simscaleai.evaluation.following import LABELS
    from simscaleai.tools.console import label, results, table, text

    categories, following = result.pop("categories", {}), result.pop("following", {})
    results("Evaluation", result)
    if categories:
        keys = ("n_episodes", "success_rate", "success_ci", "failure_stages")
        columns = ("episodes of", *map(label, keys))
        rows = [(name, *(text(k, found[k]) for k in keys)) for name, found in categories.items()]
        table("By kind of episode", columns, rows)
    if following:
        rows = [
            (
                LABELS[name],
                f"{found['count']} of {found['n']}",
                text("_rate", found["rate"]),
                text("_ci", found["ci"]),
            )
            for name, found in following.items()
        ]
        table("Following the instruction", ("what", "count", "rate", "95 % interval"), rows)
    for path in result.get("videos", ()):
        echo(f"video: {path}")


def _print_all(found: Sequence[Metrics]) -> None:
    """Print one line for each of several evaluations."""
    from simscaleai.tools.console import label, table, text

    keys = ("n_episodes", "success_rate", "success_ci", "mean_length", "failure_stages")
    columns = ("policy", *map(label, keys))
    rows = [(r["checkpoint"], *(text(key, r[key]) for key in keys)) for r in found]
    table("Evaluations", columns, rows)
