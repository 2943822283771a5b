"""Train many runs that differ in some settings, and compare their results in one table.

    run_sweep(["model.hidden_dim=128,512", "seed=0,1,2"], flags={"data.path": "data/reach.h5"}, name="width")

Every combination of values is a job: a training run in `runs/<name>/<k>-<overrides>`. All settings are
checked before the first job starts. A failing job does not stop the others. If the same sweep is started
again, finished jobs are kept, interrupted ones are resumed, and new values get new jobs.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypedDict

from rich.console import Console

from simscaleai.convert import without_nan
from simscaleai.distributed import Processes
from simscaleai.errors import UserError, printable
from simscaleai.json_types import JsonDict
from simscaleai.storage.atomic import atomic_path
from simscaleai.tools.console import table, text
from simscaleai.tools.hydra_launch import launch, parse_words
from simscaleai.tracking.folder import RunLock, check_run_name
from simscaleai.training.run_config import RunConfig, load_run

RESULT_FILE = "result.json"
_LABEL_LENGTH = 80  # file systems allow 255 bytes
# {metric: its heading in the table}; a column is shown if any job has the metric
_COLUMNS = {
    "loss": "loss",
    "eval_loss": "eval loss",
    "eval_success_rate": "success",
    "samples_per_second": "samples/s",
}


class JobResult(TypedDict, total=False):
    """Content of `result.json`."""

    status: str  # "finished", "failed" or "interrupted"
    metrics: dict[str, float]  # of a finished job
    seconds: float
    error: str  # of a failed job, one line
    traceback: str
    settings: JsonDict


@dataclass(frozen=True)
class Job:
    """One training run of a sweep.

    Attributes:
      overrides: {key: value} of the settings that differ between the jobs.
      run: its settings; the name is its folder below `runs`.
    """

    overrides: JsonDict
    run: RunConfig

    @property
    def folder(self) -> Path:
        return self.run.train_config().run_folder

    @property
    def settings(self) -> JsonDict:
        """The settings that affect its result."""
        found = asdict(self.run)
        del found["checkpoints"]["resume_from"], found["log"]["show_progress"]
        return found

    def result(self) -> JobResult:
        """Return the result of an earlier start with equal settings; {} if there is none."""
        try:
            found: JobResult = json.loads((self.folder / RESULT_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        same = isinstance(found, dict) and found.get("settings") == self.settings
        return found if same else {}

    def write(self, result: JobResult) -> None:
        """Write `result.json`."""
        with atomic_path(self.folder / RESULT_FILE) as temporary:
            content = {**result, "overrides": self.overrides, "settings": self.settings}
            temporary.write_text(
                json.dumps(without_nan(content), indent=2, allow_nan=False) + "\n", encoding="utf-8"
            )


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


def make_jobs(runs: Sequence[tuple[JsonDict, RunConfig]], name: str) -> list[Job]:
    """Return a job for each run, in its earlier folder or one with the next free number.

    Args:
      runs: overrides and settings of each run.
      name: name of the sweep.
    """
    endings = [label(overrides) for overrides, _ in runs]
    twice = [ending for ending, n in Counter(endings).items() if n > 1]
    if twice:
        raise UserError(f"The sweep names a run twice: {', '.join(twice)}; give each value once.")
    parent = replace(runs[0][1], name=name).train_config().run_folder
    there = sorted(path.name for path in parent.glob("[0-9]*") if path.is_dir())
    numbers = itertools.count(1 + max((int(p.partition("-")[0]) for p in there), default=-1))
    jobs = []
    for (overrides, run), ending in zip(runs, endings, strict=True):
        end = f"-{ending}" if ending else ""
        # the number may differ: values may have been added since
        before = [p for p in there if re.fullmatch(rf"\d+{re.escape(end)}", p)]
        folder = before[0] if before else f"{next(numbers)}{end}"
        jobs.append(Job(overrides, replace(run, name=f"{name}/{folder}")))
    return jobs


def label(overrides: JsonDict) -> str:
    """Return overrides as a part of a file name, such as "hidden_dim=128,seed=0"."""
    # the last part of a dotted key, unless two keys share it
    ends = Counter(key.rpartition(".")[2] for key in overrides)
    words = [
        f"{end if ends[end := key.rpartition('.')[2]] == 1 else key}={value}"
        for key, value in overrides.items()
    ]
    whole = ",".join(words)
    safe = re.sub(r"[^\w.,=+-]", "_", whole)
    if safe == whole and len(safe) <= _LABEL_LENGTH:
        return safe
    # a checksum keeps labels different that became equal
    return f"{safe[:_LABEL_LENGTH]}-{zlib.crc32(whole.encode()):08x}"


def run_job(jobs: Sequence[Job], show_progress: bool, number: int) -> None:
    """Run one job and write its result into its folder; only an interruption is raised."""
    from simscaleai.tools.train import train_run

    job = jobs[number]
    resume = "auto" if job.result() else None
    run = replace(
        job.run,
        checkpoints=replace(job.run.checkpoints, resume_from=resume),
        log=replace(job.run.log, show_progress=show_progress),
    )
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(printable(f"Run {number + 1} of {len(jobs)}: {job.folder}"), markup=False)
    job.write({"status": "interrupted"})  # what a killed process leaves
    start = time.perf_counter()
    try:
        metrics = train_run(run)
    except Exception as error:
        mistake = isinstance(error, UserError)  # its sentence needs no traceback
        whole = str(error) if mistake else traceback.format_exc()
        console.print(printable(f"Run {number + 1} failed: {whole}"), markup=False)
        line = str(error) if mistake else f"{type(error).__name__}: {error}"
        job.write({"status": "failed", "error": line, "traceback": whole})
    else:
        seconds = round(time.perf_counter() - start, 3)
        job.write({"status": "finished", "metrics": metrics, "seconds": seconds})


def show_summary(jobs: Sequence[Job], folder: Path) -> None:
    """Print the table of all jobs, and write it to `summary.csv` and `summary.json` in `folder`."""
    results = [job.result() for job in jobs]
    rows: list[JsonDict] = [
        {
            **job.overrides,
            "status": result.get("status", "not started"),
            **{k: result.get("metrics", {}).get(k) for k in _COLUMNS},
            "seconds": result.get("seconds"),
            "error": result.get("error"),
            "folder": str(job.folder),
        }
        for job, result in zip(jobs, results, strict=True)
    ]
    for name, write in (("summary.json", _write_json), ("summary.csv", _write_csv)):
        with atomic_path(folder / name) as temporary:
            write(temporary, rows)
    metrics = [key for key in _COLUMNS if any(row[key] is not None for row in rows)]
    names = [key.rpartition(".")[2] for key in jobs[0].overrides]
    all_well = all(row["status"] == "finished" for row in rows)
    table(
        f"Sweep in {folder}",
        ["run", *names, *(_COLUMNS[key] for key in metrics), *([] if all_well else ["status"])],
        [
            (
                job.folder.name.partition("-")[0],
                *(str(value) for value in job.overrides.values()),
                *("" if row[key] is None else text(key, row[key]) for key in metrics),
                *([] if all_well else [row["error"] or row["status"]]),
            )
            for job, row in zip(jobs, rows, strict=True)
        ],
    )


def _write_json(path: Path, rows: list[JsonDict]) -> None:
    path.write_text(
        json.dumps(without_nan(rows), indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )


def _write_csv(path: Path, rows: list[JsonDict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _as_words(chosen: JsonDict) -> list[str]:
    """Return {key: value} as arguments for `load_run`; JSON is valid YAML."""
    return [f"{key}={json.dumps(value)}" for key, value in chosen.items()]
