"""Training with evaluation in closed loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from simscaleai.datagen import export_dataset, generate_dataset
from simscaleai.errors import UserError
from simscaleai.evaluation import evaluate_checkpoint
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.storage.episodes import open_dataset
from simscaleai.tools.train import _imported, closed_loop, train_run
from simscaleai.training.component_settings import EvalSettings
from simscaleai.training.run_config import RunConfig, load_run


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "reach.h5"
    generate_dataset(
        "reach", 3, str(path), "scripted", domain_randomization=False, show_progress=False
    )
    return path


def settings(dataset: Path, **flags: Any) -> RunConfig:
    base = {
        "name": "a",
        "data.path": str(dataset),
        "model.hidden_dim": 8,
        "trainer.max_steps": 4,
        "trainer.eval_every": 2,
        "trainer.log_every": 2,
        "trainer.save_every": 2,
        "trainer.device": "cpu",
        "trainer.show_progress": False,
        "trainer.use_tensorboard": False,
        "eval.env_episodes": 3,
        "eval.seed": 4,
    }
    return load_run(None, (), {**base, **flags})


def test_successes_are_counted_on_the_way(dataset: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    metrics = train_run(settings(dataset))
    keys = {
        "eval_success_rate",
        "eval_success_at_end",
        "eval_mean_reward",
        "eval_mean_length",
        "eval_diverged",
        "eval_loss",
    }
    assert keys <= metrics.keys()
    lines = Path("runs/a/metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["step"] for r in records if keys <= r.keys()] == [2, 4]
    assert load_run("runs/a/config.yaml").eval == EvalSettings(env_episodes=3, seed=4)

    found = evaluate_checkpoint(
        "runs/a/checkpoints/final.pt", 3, seed=4, device="cpu", show_progress=False
    )
    assert metrics["eval_mean_reward"] == found["mean_reward"]  # the same episodes


def test_best_is_what_succeeds_most_often(dataset: Path, tmp_path: Path, monkeypatch) -> None:
    """Not what has the lowest loss, which is the last one here."""
    monkeypatch.chdir(tmp_path)
    rates = iter([0.5, 0.75, 0.0])
    monkeypatch.setattr(
        "simscaleai.tools.train.closed_loop",
        lambda settings, policy: lambda policy: {"eval_success_rate": next(rates)},
    )
    train_run(settings(dataset, **{"trainer.max_steps": 6, "trainer.lr": 1e-2}))
    assert load_checkpoint("runs/a/checkpoints/best.pt")["step"] == 4


def test_what_does_not_fit_is_said_before_the_first_step(
    dataset: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="says which environment made it"):
        train_run(settings(dataset, **{"data.path": ""}))
    with pytest.raises(UserError, match=r"env_episodes is -1"):
        train_run(settings(dataset, **{"eval.env_episodes": -1}))
    with pytest.raises(UserError, match="Did you mean 'heavy'"):
        train_run(settings(dataset, **{"eval.randomize": "hevy"}))
    other = tmp_path / "other.h5"
    other.write_bytes(dataset.read_bytes())
    with h5py.File(other, "r+") as file:
        about = json.loads(file["data"].attrs["env_args"])
        about["contract"]["obs_shapes"]["touch"] = [2]
        about["contract"]["obs_dtypes"]["touch"] = "float32"
        file["data"].attrs["env_args"] = json.dumps(about)
        for demo in file["data"].values():
            demo["obs/touch"] = np.zeros((len(demo["actions"]), 2), np.float32)
    with pytest.raises(UserError, match=r"'touch' \(2,\) is missing"):
        train_run(settings(other))
    assert not Path("runs").exists()


def test_evaluating_twice_gives_the_same(dataset: Path, tmp_path: Path) -> None:
    from simscaleai.training.training_run import build_trainer

    run = settings(dataset)
    policy: Any = build_trainer(run.train_config()).model
    evaluate = closed_loop(run.eval, policy)
    assert evaluate(policy) == evaluate(policy)


def test_a_lerobot_folder_is_imported_once(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    export_dataset(dataset, "lerobot", show_progress=False)
    few = {"eval.env_episodes": 0, "trainer.max_steps": 2}
    direct = train_run(settings(dataset, name="direct", **few))
    assert train_run(settings(Path("lerobot"), **few))["loss"] == direct["loss"]
    (cached,) = Path("cache/simscale/lerobot").iterdir()
    assert f"Imported lerobot to {tmp_path / cached}" in capsys.readouterr().err
    made = cached.stat().st_mtime_ns
    train_run(settings(Path("lerobot"), name="b", **few))
    assert cached.stat().st_mtime_ns == made
    assert "path: lerobot" in Path("runs/a/config.yaml").read_text()  # and not the cache
    with pytest.raises(UserError, match=r"simscale import lerobot --output"):
        open_dataset("lerobot")
    # another folder, whose files are no dataset: nothing is left in the cache
    with (
        monkeypatch.context() as other
    ):  # the first process of another machine, with a cache of its own
        launched = {"RANK": 1, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1"}
        for name, value in {"XDG_CACHE_HOME": tmp_path / "other", **launched}.items():
            other.setenv(name, str(value))
        other.setattr("simscaleai.datagen.imported_dataset._POLL_SECONDS", -1)  # it must not wait
        found = _imported(settings(Path("lerobot")).train_config())
        assert Path(found).is_file() and Path(found).is_relative_to(tmp_path / "other")
    info = Path("lerobot/meta/info.json")
    info.write_text(info.read_text().replace("v3.0", "v2.1"))
    with pytest.raises(UserError, match=r"2\.1"):
        train_run(settings(Path("lerobot"), name="c", **few))
    assert list(Path("cache/simscale/lerobot").iterdir()) == [cached]
