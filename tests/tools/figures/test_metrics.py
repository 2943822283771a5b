"""Reading a run's records back."""

from __future__ import annotations

from pathlib import Path

import pytest

from simscaleai.errors import UserError
from simscaleai.tools.figures.metrics import read_metrics
from simscaleai.tracking import RunLog

LINES = [
    '{"step": 10, "loss": 2.0, "lr": 0.1}',
    '{"step": 10, "eval_loss": 3.0}',
    "[1, 2]",
    '{"step": 20, "loss": NaN, "lr": 0.2, "note": "x", "flag": null}',
    '{"step": 30, "loss": 1.0, "lr"',
]


def test_columns(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("\n".join(LINES))
    (tmp_path / "config.yaml").write_text("eval: {env_episodes: 7}")
    metrics = read_metrics(tmp_path)
    assert list(metrics.series) == ["loss", "lr", "eval_loss"]
    assert metrics.series["lr"].steps.tolist() == [10, 20]
    assert metrics.series["lr"].values.tolist() == [0.1, 0.2]
    assert metrics.series["loss"].values.tolist() == [2.0]
    assert metrics.get("nothing", "eval_loss") is metrics.series["eval_loss"]
    assert metrics.config == {"eval": {"env_episodes": 7}}
    assert read_metrics(tmp_path / "metrics.jsonl").folder == tmp_path


def test_a_name_is_one_in_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with RunLog(Path("runs/a"), use_tensorboard=False) as log:
        log.record(5, {"loss": 1.5})
    assert read_metrics("a").series["loss"].values.tolist() == [1.5]
    assert read_metrics("a").config == {}


@pytest.mark.parametrize("config", ["[1, 2]", "{", "a: ${b}"])
def test_settings_that_cannot_be_read_do_no_harm(config: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(LINES[0])
    (tmp_path / "config.yaml").write_text(config)
    assert read_metrics(tmp_path).series["loss"].values.tolist() == [2.0]


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere is not there; .*runs/NAME"):
        read_metrics("nowhere")
    with pytest.raises(UserError, match=r"has no metrics\.jsonl"):
        read_metrics(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no numbers"):
        read_metrics(tmp_path)
    (tmp_path / "data.h5").write_bytes(b"\x89HDF")
    with pytest.raises(UserError, match=r"data\.h5 holds no metrics; give the folder or the name"):
        read_metrics(tmp_path / "data.h5")
