"""Which checkpoints of a run there are, and which one it goes on from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.models import create_model
from simscaleai.storage.atomic import temporary_for
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.tracking.checkpoints import Checkpoints
from simscaleai.tracking.folder import RunLock
from simscaleai.training import TrainConfig, Trainer
from simscaleai.training.data.dummy import DummyTrajectoryDataset
from simscaleai.training.data.loader import make_loader

DATA = DummyTrajectoryDataset(40, obs_dim=5)


def trainer(folder: Path, eval_fn: Any = None, **kwargs: Any) -> Trainer:
    base: dict[str, Any] = {"batch_size": 8, "lr": 1e-2, "max_steps": 12, "save_every": 2}
    base |= {"warmup_steps": 0, "device": "cpu", "show_progress": False, "use_tensorboard": False}
    torch.manual_seed(0)
    model = create_model("bc", state_dim=5, hidden_dim=16, n_layers=2)
    config = TrainConfig(**{**base, "checkpoint_dir": str(folder / "ck"), **kwargs})
    return Trainer(model, make_loader(DATA, 8, config.seed), config, eval_fn=eval_fn)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "ck").iterdir())


def step_of(path: Path) -> int:
    return load_checkpoint(path)["step"]


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def test_the_newest_stay_and_last_leads_to_them(tmp_path: Path) -> None:
    trainer(tmp_path).train()
    assert names(tmp_path) == [
        *("final.pt", "last", "metrics.jsonl", "step_10.pt", "step_6.pt", "step_8.pt")
    ]
    assert step_of(tmp_path / "ck/last") == 12
    trainer(tmp_path / "all", keep_checkpoints=0).train()
    assert len(list((tmp_path / "all/ck").glob("step_*"))) == 5


def test_last_is_a_file_where_links_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    trainer(tmp_path).train()
    last = tmp_path / "ck/last"
    assert last.read_text() == "final.pt\n" and not last.is_symlink()
    assert step_of(last) == 12
    again = trainer(tmp_path, resume_from=str(last))
    assert again.step == 12


def test_the_best_one_is_kept(tmp_path: Path) -> None:
    scores = iter([1.0, 3.0, 2.0, float("nan"), 3.0, 0.0])
    ours = trainer(tmp_path, lambda net: {"eval_success_rate": next(scores)}, eval_every=2)
    ours.train()
    best = load_checkpoint(tmp_path / "ck/best.pt")
    assert best["step"] == 4 and best["metrics"]["eval_success_rate"] == 3.0
    assert best["best"] == {"metric": "eval_success_rate", "value": 3.0, "step": 4}


def test_the_metric_of_the_best_one_can_be_chosen(tmp_path: Path) -> None:
    losses = iter([3.0, 1.0, 2.0])

    def evaluate(net: nn.Module) -> dict[str, float]:
        return {"eval_success_rate": 1.0, "grasp_error": next(losses)}

    trainer(tmp_path, evaluate, eval_every=4, best_metric="grasp_error").train()
    assert step_of(tmp_path / "ck/best.pt") == 8
    wrong = trainer(tmp_path, evaluate, eval_every=4, best_metric="grasp_eror")
    losses = iter([1.0])
    with pytest.raises(UserError, match="Did you mean 'grasp_error'"):
        wrong.train()


def test_a_resumed_run_remembers_its_best(tmp_path: Path) -> None:
    trainer(tmp_path, lambda net: 5.0, eval_every=2, max_steps=4).train()
    trainer(tmp_path, lambda net: 4.0, eval_every=2, max_steps=8, resume_from="auto").train()
    assert step_of(tmp_path / "ck/best.pt") == 2


def test_auto_goes_on_from_the_newest_and_moves_nothing(tmp_path: Path) -> None:
    assert trainer(tmp_path, resume_from="auto").step == 0  # nothing there: a fresh start
    whole = trainer(tmp_path / "whole")
    whole.train()
    trainer(tmp_path).train()
    (tmp_path / "ck/final.pt").unlink()
    ours = trainer(tmp_path, resume_from="auto")
    assert ours.step == 10
    ours.train()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, ours.model.state_dict()[key])
    assert [p.name for p in tmp_path.glob("ck*")] == ["ck"]


def test_auto_after_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = trainer(tmp_path).train()
    written = (tmp_path / "ck/final.pt").stat().st_mtime_ns
    again = trainer(tmp_path, resume_from="auto", show_progress=True).train()
    assert again == first
    assert (tmp_path / "ck/final.pt").stat().st_mtime_ns == written
    assert "this run is finished; raise max_steps" in capsys.readouterr().err
    longer = trainer(tmp_path, resume_from="auto", max_steps=14)
    assert longer.step == 12
    longer.train()
    assert step_of(tmp_path / "ck/final.pt") == 14


def test_auto_prefers_a_later_step_to_an_older_final(tmp_path: Path) -> None:
    trainer(tmp_path, max_steps=4).train()
    kept = (tmp_path / "ck/final.pt").read_bytes()
    trainer(tmp_path, max_steps=8, resume_from="auto").train()
    (tmp_path / "ck/final.pt").write_bytes(kept)  # as if killed after step_6, before final
    assert Checkpoints(tmp_path / "ck", tmp_path / "ck").newest().step == 6


def test_a_damaged_newest_one_gives_way_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(tmp_path, show_progress=True).train()
    damage(tmp_path / "ck/final.pt")
    damage(tmp_path / "ck/step_10.pt")
    (tmp_path / "ck/step_11.pt").touch()
    ours = trainer(tmp_path, resume_from="auto", show_progress=True)
    assert ours.step == 8
    ours.train()
    said = capsys.readouterr().err
    for name in ("final.pt", "step_11.pt", "step_10.pt"):
        assert f"ck/{name}' is not a readable checkpoint" in said
    # What is damaged may still be of use to somebody.
    assert (tmp_path / "ck.old-1/step_10.pt").exists()
    assert step_of(tmp_path / "ck/final.pt") == 12
    damage(tmp_path / "ck/final.pt")
    with pytest.raises(UserError, match="not a readable checkpoint"):
        trainer(tmp_path, resume_from=str(tmp_path / "ck/final.pt"))


def test_nothing_but_damaged_ones_is_a_fresh_start_that_keeps_them(tmp_path: Path) -> None:
    trainer(tmp_path, max_steps=2).train()
    damage(tmp_path / "ck/final.pt")
    ours = trainer(tmp_path, resume_from="auto")
    assert ours.step == 0
    ours.train()
    assert (tmp_path / "ck.old-1/final.pt").exists()


def test_what_killed_processes_left_goes_away(tmp_path: Path) -> None:
    trainer(tmp_path, max_steps=4).train()
    dead = temporary_for(tmp_path / "x").name.replace(f"-{os.getpid()}-", "-999999999-")
    (tmp_path / "ck" / dead.replace(".x.", ".step_2.pt.")).write_text("half")
    (tmp_path / "ck" / dead.replace(".x.", ".step_2.")).mkdir()
    (tmp_path / "ck/.mine.tmp").touch()
    trainer(tmp_path, max_steps=6, resume_from="auto").train()
    assert [n for n in names(tmp_path) if n.startswith(".")] == [".mine.tmp"]


@pytest.mark.parametrize("folders", ["here", "width/3"])
def test_a_named_run_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        trainer(tmp_path, run_name=folders, max_steps=4).train()
    run = tmp_path / "runs" / folders
    assert sorted(p.name for p in run.iterdir()) == ["checkpoints", "metrics.jsonl"]
    for of in (run, run.with_name(f"{run.name}.old-1")):
        assert step_of(of / "checkpoints/last") == 4
    assert trainer(tmp_path, run_name=folders, resume_from="auto").step == 4


def test_restarted_by_torchrun_it_goes_on_with_what_this_job_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(restarts: int) -> Trainer:
        processes = Processes(job="this", restarts=restarts)
        monkeypatch.setattr(Processes, "from_environment", classmethod(lambda cls: processes))
        return trainer(tmp_path, max_steps=5, seed=2)

    trainer(tmp_path, max_steps=20).train()  # an earlier run in the same folder
    assert started(restarts=1).step == 0  # the first start was killed before it had saved
    started(restarts=0).train()
    assert load_checkpoint(tmp_path / "ck/step_4.pt")["job"] == "this"
    (tmp_path / "ck/final.pt").unlink()
    assert started(restarts=1).step == 4


def test_settings_that_differ_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer(tmp_path, max_steps=4).train()
    capsys.readouterr()
    trainer(tmp_path, resume_from="auto", max_steps=6, lr=0.5).train()
    assert "lr 0.5 (was 0.01), max_steps 6 (was 4)" in capsys.readouterr().err
    with pytest.raises(
        UserError, match="the seed is 0, here 1"
    ):  # the order of the data is another
        trainer(tmp_path, resume_from="auto", max_steps=8, seed=1)


@pytest.mark.parametrize("resume_from", [None, "auto"])
def test_a_folder_in_which_another_run_is_at_work_is_left_alone(
    resume_from: str | None, tmp_path: Path
) -> None:
    trainer(tmp_path, max_steps=4).train()
    before = names(tmp_path)
    second = trainer(tmp_path, max_steps=6) if resume_from is None else None
    with RunLock(tmp_path / "ck"):
        with pytest.raises(UserError, match=r"Another process .*ck \(process"):
            (second or trainer(tmp_path, max_steps=6, resume_from=resume_from)).train()
        assert names(tmp_path) == sorted([".simscale.lock", *before])
    assert [p.name for p in tmp_path.iterdir()] == ["ck"]
    trainer(tmp_path, max_steps=6, resume_from="auto").train()  # nobody holds it any longer
    assert names(tmp_path) == before


@pytest.mark.parametrize("resume_from", [None, "auto"])
def test_a_folder_with_files_of_others_is_not_taken(
    resume_from: str | None, tmp_path: Path
) -> None:
    (tmp_path / "ck").mkdir()
    for name in ("config.yaml", "final.pt"):
        (tmp_path / "ck" / name).write_text("mine")
    with pytest.raises(UserError, match=r"holds config\.yaml, final\.pt, which no run has written"):
        trainer(tmp_path, resume_from=resume_from).train()
    assert names(tmp_path) == ["config.yaml", "final.pt"]
    assert (tmp_path / "ck/final.pt").read_text() == "mine"
