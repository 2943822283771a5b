"""Train many runs that differ in some settings, and compare their results in one table.

    run_sweep(["model.hidden_dim=128,512", "seed=0,1,2"], flags={"data.path": "data/reach.h5"}, name="width")

Every combination of values is a job: a training run in `runs/<name>/<k>-<overrides>`. All settings are
checked before the first job starts. A failing job does not stop the others. If the same sweep is started
again, finished jobs are kept, interrupted ones are resumed, and new values get new jobs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.tools.hydra_launch import launch, parse_words
from simscaleai.tools.sweep_job import Job, label, make_jobs, run_job
from simscaleai.tools.sweep_summary import show_summary
from simscaleai.tracking.folder import RunLock, check_run_name
from simscaleai.training.run_config import load_run


def run_sweep(
    words: Sequence[str],
    config: str | Path | None = None,
    flags: JsonDict | None = None,
    name: str | None = None,
    launcher: str = "basic",
) -> int:
    """Run every unfinished job, print the table, write `summary.csv`, `summary.json` and `report.html`.

    Args:
      words: arguments `key=value` or `key=a,b`, and Hydra's `hydra.launcher.<option>=value`.
      config: YAML file of the common settings.
      flags: {dotted name: value}, which override both.
      name: the folder is `runs/<name>`; by default the name in `config`, or the name of this file.
      launcher: one of Hydra's launchers; "basic" runs one job after the other in this process.

    Returns:
      Number of unfinished jobs.

    Raises:
      UserError: the settings of a job are invalid (raised before any starts), or the launcher is unknown.
    """
    if Processes.from_environment().launched:
        raise UserError(
            "A sweep starts runs of one process each; start it without torchrun, and use --launcher for"
            " several at once."
        )
    given = parse_words(words)
    launcher = given.launcher or launcher
    runs = [(chosen, load_run(config, _as_words(chosen), flags)) for chosen in given.combinations()]
    for _, run in runs:
        # The job may run on another machine: its device cannot be checked here.
        replace(run.train_config(), device="cpu").check()
    name = name or runs[0][1].name or (Path(config).stem if config else "sweep")
    check_run_name(name)
    folder = replace(runs[0][1], name=name).train_config().run_folder
    # keys with one value are the same in all jobs
    several = [key for key, values in given.values.items() if len(values) > 1]
    named = [({k: c[k] for k in several}, run) for c, run in runs]
    command = _command(words, config, flags or {}, name, launcher)
    with RunLock(folder):
        jobs = make_jobs(named, name)
        try:
            return _run_jobs(jobs, folder, launcher, given.options)
        finally:  # also after Ctrl-C, for the finished jobs
            if any(job.result() for job in jobs):
                _report(jobs, folder, command)


def _command(
    words: Sequence[str],
    config: str | Path | None,
    flags: JsonDict,
    name: str,
    launcher: str,
) -> list[str]:
    """Return the words of the command that starts the same sweep."""
    options = ["--name", name, *(["--config", str(config)] if config else [])]
    options += ["--launcher", launcher] if launcher != "basic" else []
    set_by_flags = [f"{key}={json.dumps(value)}" for key, value in flags.items()]
    return ["simscale", "sweep", *options, *set_by_flags, *words]


def _report(jobs: Sequence[Job], folder: Path, command: Sequence[str]) -> None:
    """Write `report.html`."""
    from simscaleai.tools.report.sweep_report import SweptRun, write_sweep_report

    runs = []
    for job in jobs:
        result = job.result()
        runs.append(
            SweptRun(
                label=label(job.overrides) or job.folder.name,
                folder=job.folder,
                status=result.get("status", "not started"),
                metrics=result.get("metrics", {}),
                eval_episodes=job.run.eval.env_episodes,
                error=result.get("error", ""),
            )
        )
    common = {
        f"{group}.{key}": value
        for group, values in jobs[0].settings.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if f"{group}.{key}" not in jobs[0].overrides
    }
    write_sweep_report(folder, runs, command, common)


def _run_jobs(jobs: Sequence[Job], folder: Path, launcher: str, options: Sequence[str]) -> int:
    """Run the unfinished jobs and summarize all; return the number that are still unfinished."""
    waiting = [i for i, job in enumerate(jobs) if job.result().get("status") != "finished"]
    console = Console(stderr=True)
    if len(waiting) < len(jobs):
        console.print(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are finished already.")
    try:
        if waiting:
            task = partial(run_job, jobs, launcher == "basic")
            launch(task, waiting, folder / "hydra", launcher, options)
    except (KeyboardInterrupt, SystemExit):
        console.print("Stopped; run the same command again to resume.")
        raise
    finally:  # also after Ctrl-C, for the finished jobs
        if any(job.result() for job in jobs):
            show_summary(jobs, folder)
    return sum(job.result().get("status") != "finished" for job in jobs)


def _as_words(chosen: JsonDict) -> list[str]:
    """Return {key: value} as arguments for `load_run`; JSON is valid YAML."""
    return [f"{key}={json.dumps(value)}" for key, value in chosen.items()]
