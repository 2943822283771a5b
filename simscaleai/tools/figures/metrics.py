"""Read `metrics.jsonl` of a run as one series for each metric."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from simscaleai.array_types import FloatArray
from simscaleai.errors import MissingFileError, UserError
from simscaleai.json_types import JsonDict
from simscaleai.storage.find_checkpoint import RUNS
from simscaleai.tracking.log import METRICS_FILE
from simscaleai.tracking.run_info import CONFIG_FILE, INFO_FILE
from simscaleai.yaml_text import read_yaml


@dataclass(frozen=True)
class Series:
    """Values of one metric, and the steps at which they were recorded, in the order of the file."""

    steps: FloatArray  # (m,)
    values: FloatArray  # (m,)


@dataclass(frozen=True)
class Metrics:
    """The records of a run.

    Attributes:
      folder: folder of the run.
      series: {metric: values}, in the order of first appearance.
      config: settings of the run; {} if they cannot be read.
      info: entry of the newest start in `run_info.json`; {} if it cannot be read.
    """

    folder: Path
    series: dict[str, Series]
    config: JsonDict
    info: JsonDict = field(default_factory=dict)

    def get(self, *names: str) -> Series | None:
        """Return the first of these metrics that was recorded."""
        return next((self.series[name] for name in names if name in self.series), None)


def read_metrics(run: str | Path) -> Metrics:
    """Read the metrics of a run.

    Values that are not finite are ignored, and so are unreadable lines, such as a killed run may leave.

    Args:
      run: folder of the run, its name in `runs/`, or the file `metrics.jsonl` itself.

    Raises:
      UserError: the run does not exist or recorded nothing.
    """
    path = _find(Path(run))
    found: dict[str, tuple[list[float], list[float]]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = json.loads(line)
            step = float(values.pop("step"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # no JSON, or no object with a step
        for name, value in values.items():
            if _is_number(value):
                steps, numbers = found.setdefault(name, ([], []))
                steps.append(step)
                numbers.append(float(value))
    if not found and path.suffix != Path(METRICS_FILE).suffix:
        raise UserError(f"{path} holds no metrics; give the folder or the name of a run.")
    if not found:
        raise UserError(f"{path} holds no numbers; the run stopped before it recorded any.")
    series = {name: Series(np.array(s), np.array(v)) for name, (s, v) in found.items()}
    config, info = _config(path.with_name(CONFIG_FILE)), _info(path.with_name(INFO_FILE))
    return Metrics(path.parent, series, config, info)


def _find(run: Path) -> Path:
    for path in (run, run / METRICS_FILE, RUNS / run / METRICS_FILE):
        if path.is_file():
            return path
    what = f"has no {METRICS_FILE}" if run.is_dir() else "is not there"
    raise MissingFileError(
        f"{run} {what}; give the folder of a run of `simscale train` or `simscale rl`, such as"
        " runs/NAME."
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _config(path: Path) -> JsonDict:
    try:
        config = read_yaml(path)
    except UserError:  # the curves do not depend on the settings
        return {}
    return {str(k): v for k, v in config.items()} if isinstance(config, dict) else {}


def _info(path: Path) -> JsonDict:
    try:
        starts = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        return {}
    newest = starts[-1] if isinstance(starts, list) and starts else None
    return newest if isinstance(newest, dict) else {}
