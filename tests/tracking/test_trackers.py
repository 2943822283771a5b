"""TensorBoard's file read back; Weights & Biases offline, for real."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from simscaleai.errors import UserError
from simscaleai.tracking import RunLog
from simscaleai.tracking.trackers import TENSORBOARD_FOLDER, WANDB_FILE


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """{tag: [(step, value)]} as TensorBoard shows them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / TENSORBOARD_FOLDER)).Reload()
    return {
        tag: [(e.step, round(e.value, 6)) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_shows_the_values_and_forgets_what_is_made_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with RunLog(tmp_path) as log:
        for step in range(1, 6):
            log.record(step, {"loss": step / 2})
        log.record(5, {"eval_loss": 9.0})
    with RunLog(tmp_path, start_step=3) as log:
        log.record(4, {"loss": 7.0})
    assert curves(tmp_path) == {
        "train/loss": [(1, 0.5), (2, 1.0), (3, 1.5), (4, 7.0)],
        "eval/loss": [],
    }
    with RunLog(tmp_path) as log:  # killed before its first checkpoint, say
        log.record(1, {"loss": 8.0})
    assert curves(tmp_path)["train/loss"] == [(1, 8.0)]


@pytest.mark.slow
def test_wandb_offline_makes_a_run_and_resuming_keeps_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    ids = []
    for start_step in (0, 2, 0):
        options = {"project": "test", "name": "a", "config": {"lr": 0.1}}
        with RunLog(tmp_path, start_step, use_tensorboard=False, wandb=options) as log:
            for step in (start_step + 1, start_step + 2):
                log.record(step, {"loss": 1.0 / step})
        ids.append((tmp_path / WANDB_FILE).read_text().strip())
    assert ids[0] == ids[1] != ids[2]
    files = list((tmp_path / "wandb").glob(f"offline-run-*-{ids[0]}/run-{ids[0]}.wandb"))
    assert files and all(path.stat().st_size > 0 for path in files)


def test_wandb_gets_every_record_and_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    fake = fake_wandb(monkeypatch)
    fake.init = lambda **options: (
        seen.append(options)
        or types.SimpleNamespace(
            id="abc",
            log=lambda values, step: seen.append((step, values)),
            finish=lambda exit_code: seen.append(exit_code),
        )
    )
    with RunLog(tmp_path, use_tensorboard=False, wandb={"project": "p"}) as log:
        log.record(3, {"loss": 1.0})
    with pytest.raises(KeyError), RunLog(tmp_path, 3, False, {"project": "p"}):
        raise KeyError
    first = {"project": "p", "dir": str(tmp_path), "resume": "allow", "id": None}
    assert seen == [first, (3, {"loss": 1.0}), 0, {**first, "id": "abc"}, 1]


def test_wandb_that_does_not_start_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = fake_wandb(monkeypatch)

    def init(**_: Any) -> None:
        raise fake.Error("api_key not configured.\nMore lines.")

    fake.init = init
    with pytest.raises(UserError, match=r"api_key not configured; log in with.*WANDB_MODE=offline"):
        RunLog(tmp_path, use_tensorboard=False, wandb={}).__enter__()


def fake_wandb(monkeypatch: pytest.MonkeyPatch) -> Any:
    fake: Any = types.ModuleType("wandb")
    fake.Error = type("Error", (Exception,), {})
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake
