"""A run's numbers as columns: `metrics.jsonl` read back."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from simscaleai.array_types import FloatArray
from simscaleai.errors import MissingFileError, UserError
from simscaleai.storage.find_checkpoint import RUNS
from simscaleai.tracking.log import METRICS_FILE
from simscaleai.tracking.run_info import CONFIG_FILE, INFO_FILE
from simscaleai.yaml_text import read_yaml


@dataclass(frozen=True)
class Series:
    """One number over the steps that recorded it; both (m,) float64, in the order of the file."""

    steps: FloatArray
    values: FloatArray


@dataclass(frozen=True)
class Metrics:
    """What a run recorded.

    Attributes:
      folder: of the run.
      series: {name: its values}, in the order in which names first appear.
      config: the run's settings, {} if they cannot be read.
      info: what `run_info.json` says of the newest start, {} if it cannot be read.
    """

    folder: Path
    series: dict[str, Series]
    config: dict[str, Any]
    info: dict[str, Any] = field(default_factory=dict)

    def get(self, *names: str) -> Series | None:
        """The first of these that was recorded."""
        return next((self.series[name] for name in names if name in self.series), None)


def read_metrics(run: str | Path) -> Metrics:
    """Read what a run recorded.

    A line that cannot be read, as a killed run may leave, is passed over, and so is a value that is not
    finite.

    Args:
      run: its folder, the name of one in `runs/`, or the file `metrics.jsonl` itself.

    Raises:
      UserError: there is no such run, or it recorded nothing.
    """
    path = _find(Path(run))
    found: dict[str, tuple[list[float], list[float]]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = json.loads(line)
            step = float(values.pop("step"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        for name, value in values.items():
            if _is_number(value):
                steps, numbers = found.setdefault(name, ([], []))
                steps.append(step)
                numbers.append(float(value))
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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = read_yaml(path)
    except UserError:  # whatever is wrong with it, the curves do not depend on it
        return {}
    return {str(k): v for k, v in config.items()} if isinstance(config, dict) else {}


def _info(path: Path) -> dict[str, Any]:
    try:
        starts = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        return {}
    newest = starts[-1] if isinstance(starts, list) and starts else None
    return newest if isinstance(newest, dict) else {}
