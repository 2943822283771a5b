"""The table of a sweep: printed, and as `summary.csv` and `summary.json`."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from simscaleai.convert import without_nan
from simscaleai.json_types import JsonDict
from simscaleai.storage.atomic import atomic_path
from simscaleai.tools.console import table, text
from simscaleai.tools.sweep_job import Job

# {metric: its heading in the table}; a column is shown if any job has the metric
_COLUMNS = {
    "loss": "loss",
    "eval_loss": "eval loss",
    "eval_success_rate": "success",
    "samples_per_second": "samples/s",
}


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
