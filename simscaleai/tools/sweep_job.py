"""One training run of a sweep: its folder, its result file, and running it."""

from __future__ import annotations

import itertools
import json
import re
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypedDict

from rich.console import Console

from simscaleai.convert import without_nan
from simscaleai.errors import UserError, printable
from simscaleai.json_types import JsonDict
from simscaleai.storage.atomic import atomic_path
from simscaleai.training.run_config import RunConfig

RESULT_FILE = "result.json"
_LABEL_LENGTH = 80  # file systems allow 255 bytes


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
