"""metrics.jsonl: whole lines, one history also for a run that went back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simscaleai.errors import UserError
from simscaleai.tools.figures.metrics import read_metrics
from simscaleai.tracking import RunLog
from simscaleai.tracking.log import METRICS_FILE
from simscaleai.tracking.trackers import TensorBoard


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]


def log(folder: Path, steps: range, start_step: int = 0, offset: float = 0.0) -> None:
    with RunLog(folder, start_step, use_tensorboard=False) as run:
        for step in steps:
            run.record(step, {"loss": step + offset})


def test_a_line_for_each_record_and_nothing_else(tmp_path: Path) -> None:
    log(tmp_path / "new/run", range(1, 4))
    assert records(tmp_path / "new/run") == [{"step": k, "loss": k} for k in (1, 2, 3)]
    assert [path.name for path in (tmp_path / "new/run").iterdir()] == [METRICS_FILE]


def test_numbers_that_json_does_not_have_are_null_and_drawn_nowhere(tmp_path: Path) -> None:
    with RunLog(tmp_path, use_tensorboard=False) as run:
        run.record(1, {"loss": float("nan"), "lr": float("inf"), "kl": np.float32(0.5)})
        run.record(2, {"loss": np.float64(1.0), "lr": 0.1, "kl": torch.tensor(2.0)})

    def refuse(name: str) -> None:
        raise AssertionError(name)

    lines = (tmp_path / METRICS_FILE).read_text().splitlines()
    strict = [json.loads(line, parse_constant=refuse) for line in lines]
    assert strict[0] == {"step": 1, "loss": None, "lr": None, "kl": 0.5}
    series = read_metrics(tmp_path).series
    assert series["loss"].values.tolist() == [1.0] and series["kl"].values.tolist() == [0.5, 2.0]


def test_a_resumed_run_replaces_the_steps_that_it_makes_again(tmp_path: Path) -> None:
    log(tmp_path, range(1, 6))
    log(tmp_path, range(4, 8), start_step=3, offset=0.5)
    found = records(tmp_path)
    assert [r["step"] for r in found] == [1, 2, 3, 4, 5, 6, 7]
    assert [r["loss"] for r in found] == [1, 2, 3, 4.5, 5.5, 6.5, 7.5]


@pytest.mark.parametrize(
    "torn", ['{"step": 3, "lo', '{"step": 3, "loss": 3.0}', "\x00\x00", "[]\n"]
)
def test_what_a_killed_run_wrote_last_does_no_harm(tmp_path: Path, torn: str) -> None:
    log(tmp_path, range(1, 3))
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write(torn)
    log(tmp_path, range(4, 5), start_step=3)
    whole = torn.endswith("}")
    assert [r["step"] for r in records(tmp_path)] == [1, 2, *([3] if whole else []), 4]


def test_a_killed_process_loses_no_record(tmp_path: Path) -> None:
    run = RunLog(tmp_path, use_tensorboard=False).__enter__()
    run.record(1, {"loss": 0.5})
    assert records(tmp_path) == [{"step": 1, "loss": 0.5}]  # before anything is closed
    run.__exit__(None, None, None)


def test_missing_packages_are_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(TensorBoard, "installed", lambda: False)
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=r"use_wandb needs .* wandb, .*simscaleai\[tracking\]"):
        RunLog(folder, wandb={})
    with pytest.raises(UserError, match=r"use_tensorboard needs .* tensorboard, .*\[tracking\]"):
        RunLog(folder, use_tensorboard=True)
    log(folder, range(1, 2))
    with RunLog(folder) as run:  # None: where it is installed
        run.record(2, {})
    assert [path.name for path in folder.iterdir()] == [METRICS_FILE]
