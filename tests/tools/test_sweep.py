"""A sweep makes every run once, loses none to another's failure, and goes on where it stopped."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from simscaleai.errors import UserError
from simscaleai.tracking.folder import RunLock
from simscaleai.training.run_config import RunConfig

pytest.importorskip("hydra")

from simscaleai.tools import sweep, sweep_job
from simscaleai.tools.sweep import run_sweep
from simscaleai.tools.sweep_job import label

WORDS = ["model.hidden_dim=8,16", "seed=0,1"]
FOLDERS = [
    f"{k}-hidden_dim={h},seed={s}" for k, (h, s) in enumerate([(8, 0), (8, 1), (16, 0), (16, 1)])
]


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[RunConfig]:
    """Runs that end at once with seed as their loss; all that were started are listed."""
    started: list[RunConfig] = []

    def fake(run: RunConfig) -> dict[str, float]:
        started.append(run)
        if run.seed == 13:
            raise UserError("Unlucky.")
        if run.seed == 14:
            raise RuntimeError("a defect")
        return {"loss": run.seed + 0.5, "eval_success_rate": 0.25, "samples_per_second": 100.0}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("simscaleai.tools.train.train_run", fake)
    monkeypatch.setattr(sweep, "launch", lambda task, numbers, *_: [task(k) for k in numbers])
    return started


def folders(name: str = "sweep") -> list[str]:
    return sorted(path.name for path in Path("runs", name).glob("[0-9]*"))


def rows(name: str = "sweep") -> list[dict[str, Any]]:
    return json.loads(Path("runs", name, "summary.json").read_text())


def test_two_sweeps_do_not_share_a_folder(train) -> None:
    with RunLock(Path("runs/width")), pytest.raises(UserError, match=r"Another process .*width"):
        run_sweep(WORDS, name="width")
    with pytest.raises(UserError, match=r"'\.\./width' is not that of a folder"):
        run_sweep(WORDS, name="../width")
    assert train == [] and folders("width") == []
    run_sweep(WORDS, name="width")
    assert not list(Path("runs/width").glob("*.lock"))


def test_every_combination_is_a_run_of_its_own(train, capsys) -> None:
    flags = {"data.path": "a.h5", "eval.env_episodes": 4}
    assert run_sweep([*WORDS, "trainer.lr=1e-3"], flags=flags, name="width") == 0
    assert folders("width") == FOLDERS
    assert [(r.model["hidden_dim"], r.seed) for r in train] == [(8, 0), (8, 1), (16, 0), (16, 1)]
    assert [r.train_config().run_folder.name for r in train] == FOLDERS
    assert all(r.optimizer.lr == 1e-3 and r.data.path == "a.h5" for r in train)
    assert all(r.eval.env_episodes == 4 and r.checkpoints.resume_from is None for r in train)

    assert [row["loss"] for row in rows("width")] == [0.5, 1.5, 0.5, 1.5]
    page = Path("runs/width/report.html").read_text()
    assert "4 of 4 runs finished" in page and page.count("1 of 4,") == 4  # 25 %
    assert "simscale sweep --name width" in page and "data.path=" in page
    with Path("runs/width/summary.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["model.hidden_dim"] for row in table] == ["8", "8", "16", "16"]
    assert {row["status"] for row in table} == {"finished"}
    out = capsys.readouterr().out
    assert "25.0 %" in out and "eval loss" not in out  # no run has one


def test_a_failure_does_not_stop_the_others_and_is_tried_again(train, capsys, monkeypatch) -> None:
    assert run_sweep(["seed=0,13,14,2"]) == 2
    assert len(train) == 4
    assert [row["status"] for row in rows()] == ["finished", "failed", "failed", "finished"]
    assert rows()[1]["error"] == "Unlucky."
    assert rows()[2]["error"] == "RuntimeError: a defect"
    out, err = capsys.readouterr()
    assert "Unlucky." in out and "RuntimeError" in out
    assert err.count("Traceback") == 1  # a defect is shown as one, a mistake is not

    del train[:]
    monkeypatch.setattr(
        "simscaleai.tools.train.train_run", lambda run: train.append(run) or {"loss": 0.0}
    )
    assert run_sweep(["seed=0,13,14,2"]) == 0
    assert [(run.seed, run.checkpoints.resume_from) for run in train] == [
        (13, "auto"),
        (14, "auto"),
    ]
    assert "2 of 4 runs are finished already" in capsys.readouterr().err


def test_new_values_are_added_and_finished_ones_kept(train) -> None:
    run_sweep(["seed=0,1"])
    run_sweep(["seed=2,1,0,3"])
    assert [run.seed for run in train] == [0, 1, 2, 3]
    assert folders() == ["0-seed=0", "1-seed=1", "2-seed=2", "3-seed=3"]
    assert [row["loss"] for row in rows()] == [2.5, 1.5, 0.5, 3.5]


def test_other_settings_make_a_run_anew_but_how_it_is_shown_does_not(train) -> None:
    run_sweep(["seed=0,1"])
    run_sweep(["seed=0,1", "trainer.show_progress=false"])
    assert len(train) == 2
    run_sweep(["seed=0,1", "trainer.max_steps=5"])
    assert [run.checkpoints.resume_from for run in train] == [
        None
    ] * 4  # no way to go on from another run
    assert folders() == ["0-seed=0", "1-seed=1"]


def test_an_interruption_shows_what_there_is_and_the_rest_is_made_later(
    train, monkeypatch, capsys
) -> None:
    def interrupt(run: RunConfig) -> dict[str, float]:
        if run.seed == 1:
            raise KeyboardInterrupt
        return {"loss": 0.0}

    with monkeypatch.context() as patch:
        patch.setattr("simscaleai.tools.train.train_run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(["seed=0,1,2"])
    assert [row["status"] for row in rows()] == ["finished", "interrupted", "not started"]
    out, err = capsys.readouterr()
    assert "not started" in out
    assert "run the same command again to resume" in err
    assert run_sweep(["seed=0,1,2"]) == 0
    assert [(run.seed, run.checkpoints.resume_from) for run in train] == [(1, "auto"), (2, None)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=0,1", "model.hidden_dim=8,big"], "hidden_dim.*Integer"),
        (["sed=0,1"], "Did you mean 'seed'"),
        (["model.name=bc,bcc"], "Unknown model 'bcc'"),
        (["seed=0,1,0"], "names a run twice: seed=0"),
        (["trainer.max_steps=5,0"], "max_steps is 0"),
    ],
)
def test_all_is_checked_before_the_first_run_starts(words, message, train) -> None:
    with pytest.raises(UserError, match=message):
        run_sweep(words)
    assert not train


def test_a_sweep_is_named_by_its_configuration(train) -> None:
    Path("wide.yaml").write_text("model: {hidden_dim: 512}")
    run_sweep(["seed=0,1"], config="wide.yaml")
    Path("named.yaml").write_text("name: mine")
    run_sweep(["seed=0"], config="named.yaml")
    assert (folders("wide"), folders("mine")) == (["0-seed=0", "1-seed=1"], ["0"])
    assert train[0].model["hidden_dim"] == 512


def test_a_configuration_is_nothing_but_data(train) -> None:
    """What Hydra would do with such a file: compose, interpolate and call."""
    file = Path("evil.yaml")
    for text in (
        "defaults: [other]",
        "hydra: {run: {dir: elsewhere}}",
        "model: {_target_: os.getcwd}",
        "name: ${oc.env:HOME}",
        "seed: ${now:%Y}",
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=r"evil\.yaml"):
            run_sweep(["seed=0,1"], config=file)
    assert not train and not Path("runs").exists()


def test_not_within_torchrun(train, monkeypatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="without torchrun"):
        run_sweep(["seed=0,1"])


def test_labels_are_file_names() -> None:
    assert label({}) == ""
    assert label({"model.hidden_dim": 8, "trainer.lr": 0.001}) == "hidden_dim=8,lr=0.001"
    assert label({"model.name": "bc", "data.name": "x"}) == "model.name=bc,data.name=x"
    a, b = (label({"data.path": f"{'long/' * 30}{name}.h5"}) for name in "ab")
    assert a != b and "/" not in a + b and max(len(a), len(b)) < 100
    assert label({"note": "a b"}) != label({"note": "a_b"})


def test_results_of_processes_that_died_are_not_taken_for_finished(train) -> None:
    run_sweep(["seed=0,1"])
    Path("runs/sweep/0-seed=0", sweep_job.RESULT_FILE).write_text("{half")
    Path("runs/sweep/1-seed=1", sweep_job.RESULT_FILE).write_text("[1]")
    del train[:]
    assert run_sweep(["seed=0,1"]) == 0
    assert [run.seed for run in train] == [0, 1]
