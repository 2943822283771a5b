"""What every registered model promises; a model that is added is tested here without an edit."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simscaleai.models.policy import ModelPolicy
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.training import TrainConfig, build_trainer
from simscaleai.training.data.loader import to_device
from simscaleai.training.data.stream import LocalBatch

SCRIPT = Path(__file__).with_name("resume_run.py")
_spec = importlib.util.spec_from_file_location("resume_run", SCRIPT)
assert _spec is not None and _spec.loader is not None
resume_run: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(resume_run)
MODELS: list[str] = resume_run.MODELS


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def config(name: str, folder: Path, **kwargs: Any) -> TrainConfig:
    """A run on synthetic data of the shapes that the model takes, at its smallest, by default."""
    base: dict[str, Any] = {
        "batch_size": 4,
        "max_steps": 4,
        "warmup_steps": 0,
        "device": "cpu",
        "show_progress": False,
        "checkpoint_dir": str(folder),
    }
    return TrainConfig(resume_run.debug(name), **{**base, **kwargs})


def first_batch(trainer: Any) -> dict[str, Any]:
    return to_device(next(iter(trainer.stream.loader)), trainer.device)


def raw(batch: dict[str, Any]) -> dict[str, np.ndarray]:
    """Observations as an environment gives them: the present ones."""
    steps = "obs_mask" in batch
    obs = {k: (v[:, -1] if steps else v).numpy() for k, v in batch["observations"].items()}
    if "image" in obs:
        obs["image"] = (obs["image"] * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    return obs


def test_forward_gives_a_loss_that_reaches_every_parameter(name: str, tmp_path: Path) -> None:
    trainer = build_trainer(config(name, tmp_path))
    out = trainer.model(first_batch(trainer))
    assert out["loss"].shape == () and torch.isfinite(out["loss"])
    assert out["predicted_actions"].shape[0] == 4
    assert out["predicted_actions"].shape[-1] == 4
    out["loss"].backward()
    without = [k for k, p in trainer.model.named_parameters() if p.grad is None]
    assert without == []


def test_predict_changes_neither_mode_nor_random_state(name: str, tmp_path: Path) -> None:
    trainer = build_trainer(config(name, tmp_path))
    model = trainer.model.model.train()
    obs = first_batch(trainer)["observations"]
    before = torch.get_rng_state()
    actions = model.predict(obs)
    assert torch.equal(before, torch.get_rng_state())
    assert all(m.training for m in model.modules())
    assert actions.shape[0] == 4 and actions.shape[-1] == 4 and not actions.requires_grad


def test_it_learns_a_batch_by_heart(name: str, tmp_path: Path) -> None:
    trainer = build_trainer(config(name, tmp_path, lr=3e-3))
    batch = first_batch(trainer)
    losses = [
        trainer.optimizer_step.step(LocalBatch(batch, 4, 4), i + 1)["loss"].item()
        for i in range(30)
    ]
    assert np.mean(losses[-8:]) < 0.5 * np.mean(losses[:8])


def test_its_checkpoint_is_the_policy(name: str, tmp_path: Path) -> None:
    trainer = build_trainer(config(name, tmp_path))
    trainer.train()
    policy = ModelPolicy.from_checkpoint(tmp_path / "final.pt", device="cpu")
    obs = raw(first_batch(trainer))
    actions = policy.act(obs)
    assert actions.shape == (4, 4) and actions.dtype == np.float32 and np.abs(actions).max() <= 1
    np.testing.assert_array_equal(actions, trainer.model.act(obs))
    for i in range(4):  # rows do not depend on their neighbours
        policy.reset(np.ones(1, dtype=bool), [0])
        one = policy.act({k: v[i : i + 1] for k, v in obs.items()})
        np.testing.assert_array_equal(one[0], actions[i])


def same_runs(folder: Path, stops: list[int]) -> None:
    """The run that nothing stopped, and those that went on from one of its checkpoints."""
    whole = load_checkpoint(folder / "whole/final.pt")
    for stop in stops:
        resumed = load_checkpoint(folder / f"{stop}/final.pt")
        for key in ("weights", "optimizer"):
            torch.testing.assert_close(resumed[key], whole[key], rtol=0, atol=0)
        losses = [
            {record["step"]: record["loss"] for record in map(json.loads, path.open())}
            for path in (folder / "whole/metrics.jsonl", folder / f"{stop}/metrics.jsonl")
        ]
        assert losses[1] == {
            step: losses[0][step] for step in range(stop + 1, resume_run.STEPS + 1)
        }


# After the first step, in the middle of an epoch, at its edge, and before the last step.
STOPS = [1, 2, resume_run.EPOCH, resume_run.STEPS - 1]


def test_resume_is_bit_exact(name: str, tmp_path: Path) -> None:
    resume_run.whole_and_resumed(name, tmp_path, STOPS[1:2], 0)
    same_runs(tmp_path, STOPS[1:2])


# where a run stops, and who reads its data, is the same for every model; two processes are slow
@pytest.mark.parametrize("workers", [0, 2])
def test_resume_is_bit_exact_at_every_place(tmp_path: Path, workers: int) -> None:
    stops = STOPS if workers == 0 else STOPS[1:2]
    resume_run.whole_and_resumed("bc", tmp_path, stops, workers)
    same_runs(tmp_path, stops)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_resume_of_every_model_is_bit_exact_at_every_place(
    name: str, tmp_path: Path, workers: int
) -> None:
    resume_run.whole_and_resumed(name, tmp_path, STOPS, workers)
    same_runs(tmp_path, STOPS)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_resume_of_two_processes_is_bit_exact_at_every_place(
    launch: Any, tmp_path: Path, workers: int
) -> None:
    launch(2, SCRIPT, tmp_path, ",".join(map(str, STOPS)), workers, timeout=600)
    for model in MODELS:
        same_runs(tmp_path / model, STOPS)
