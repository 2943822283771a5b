"""Means over steps and processes, the share of waiting, and what is shown."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from simscaleai.tracking.log import METRICS_FILE
from simscaleai.training import TrainConfig
from simscaleai.training.report import Report
from simscaleai.training.run_config import RunConfig

RATES = {"samples_per_second", "data_seconds", "step_seconds", "data_wait_share"}


def config(**kwargs: Any) -> RunConfig:
    base: dict[str, Any] = {"max_steps": 10, "use_tensorboard": False, "show_progress": False}
    return RunConfig.of(TrainConfig(**{**base, **kwargs}))


def loss(value: float) -> dict[str, torch.Tensor]:
    return {"loss": torch.tensor(value)}


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]


def test_a_record_is_the_mean_since_the_last_one(tmp_path: Path) -> None:
    with Report(config(), tmp_path, 0) as report:
        assert report.write(0, 0.1) == {}
        for step, value in enumerate((1.0, 2.0, 6.0), start=1):
            report.collect(step, loss(value), 4)
        first = report.write(3, 0.1)
        report.collect(4, loss(8.0), 4)
        second = report.write(4, 0.2)
        report.record(4, {"eval_loss": 5.0})
    assert (first["loss"], second["loss"]) == (3.0, 8.0)
    assert first.keys() == {"loss", "lr", *RATES}
    assert records(tmp_path) == [
        {"step": 3, **first},
        {"step": 4, **second},
        {"step": 4, "eval_loss": 5.0},
    ]


def test_a_number_that_comes_and_goes_is_averaged_over_the_steps_that_gave_it(
    tmp_path: Path,
) -> None:
    with Report(config(), tmp_path, 0) as report:
        report.collect(1, loss(1.0) | {"aux": torch.tensor(4.0)}, 4)
        report.collect(2, loss(3.0), 4)
        found = report.write(2, 0.1)
        report.collect(3, loss(3.0), 4)
        assert "aux" not in report.write(3, 0.1)
    assert (found["loss"], found["aux"]) == (2.0, 4.0)


def test_waiting_and_computing_are_told_apart(tmp_path: Path) -> None:
    with Report(config(), tmp_path, 0) as report:
        time.sleep(0.05)
        report.restart_clock()  # evaluation and saving do not count
        for step in (1, 2):
            time.sleep(0.04)
            report.collect(step, loss(1.0), 10, waited=0.03)
        found = report.write(2, 0.1)
    assert found["data_seconds"] == pytest.approx(0.03)
    assert 0.01 <= found["step_seconds"] < 0.03
    whole = found["data_seconds"] + found["step_seconds"]
    assert found["data_wait_share"] == pytest.approx(found["data_seconds"] / whole)
    assert found["samples_per_second"] == pytest.approx(10 / whole)


def test_of_several_processes_one_writes_the_mean_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = {}
    for main in (True, False):
        settings = config(show_progress=True)
        folder = tmp_path / str(main)
        reduce = lambda values: values + 1  # noqa: E731 (the others' losses are higher)
        with Report(settings, folder, 0, processes=4, main=main, reduce=reduce) as report:
            time.sleep(0.01)
            report.collect(10, {**loss(1.0), "mae": torch.tensor(0.5)}, 8)
            results[main] = report.write(10, 0.1)
            report.record(10, {"eval_loss": 1.0})
            report.say(f"from {main}")
        assert folder.exists() == main
    for found in results.values():
        assert (found["loss"], found["mae"]) == (2.0, 1.5)
        assert found["samples_per_second"] < 4 * 8 / 0.01
        assert found["samples_per_second"] * found["step_seconds"] == pytest.approx(32)
    shown = capsys.readouterr().err
    assert "from True" in shown and "from False" not in shown


def test_no_file_before_the_block_and_a_resumed_run_goes_on(tmp_path: Path) -> None:
    report = Report(config(), tmp_path / "run", 0)
    assert not (tmp_path / "run").exists()
    with report:
        report.record(2, {"loss": 1.0})
        report.record(4, {"loss": 1.0})
    with Report(config(), tmp_path / "run", start_step=3) as report:
        report.record(5, {"loss": 1.0})
    assert [r["step"] for r in records(tmp_path / "run")] == [2, 5]


def show(folder: Path, steps: int) -> None:
    with Report(config(show_progress=True), folder, 0) as report:
        for step in range(1, steps + 1):
            time.sleep(0.01)
            report.collect(step, loss(0.125), 64, waited=0.005)
            if step % 5 == 0:
                report.write(step, 3e-4)
        report.record(step, {"eval_loss": 0.25, "eval_success_rate": 0.5})


def test_lines_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(tmp_path, 10)
    assert re.fullmatch(
        r"step 10/10  loss 0.125  lr 0.0003  [\d,]+ samples/s  data wait \d+ %\n"
        r"step 10/10  eval_loss 0.25  eval_success_rate 0.5\n",
        capsys.readouterr().err,
    )


@pytest.mark.parametrize("columns", [80, 120])
def test_the_bar_on_a_terminal(
    columns: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    show(tmp_path, 10)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert "step 10/10  eval_loss 0.25  eval_success_rate 0.5\n" in shown
    last = shown.replace("\r", "\n").strip().splitlines()[-1]
    wanted = r"10/10 loss 0.125  lr 0.0003  [\d,]+ samples/s  data wait \d+ % +0:00:00"
    assert re.search(wanted, last), last
    assert len(last) <= columns
