"""Settings as scripts have them train to the end and are saved; what cannot be saved is refused first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from simscaleai.errors import UserError
from simscaleai.models import create_model, register_model
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.training import TrainConfig, Trainer, train_policy


def settings(folder: Path, **values: Any) -> TrainConfig:
    config = TrainConfig(
        checkpoint_dir=folder,  # type: ignore[arg-type]
        max_steps=np.int64(2),  # type: ignore[arg-type]
        batch_size=np.int32(4),  # type: ignore[arg-type]
        device="cpu",
        num_workers=np.uint8(0),  # type: ignore[arg-type]
        show_progress=np.bool_(False),  # type: ignore[arg-type]
        use_tensorboard=np.bool_(False),  # type: ignore[arg-type]
        **values,
    )
    config.lr, config.seed = np.logspace(-4, -3, 3)[1], torch.tensor(3)  # type: ignore[assignment]
    return config


def test_a_run_with_numbers_and_paths_of_scripts(tmp_path: Path) -> None:
    config = settings(tmp_path, model_kwargs={"hidden_dim": np.int64(16), "n_layers": np.array(1)})
    config.model_kwargs["dropout"] = np.float32(0)  # after the assignment that converted
    train_policy(config)
    saved = load_checkpoint(tmp_path / "final.pt")
    assert saved["config"]["lr"] == pytest.approx(10**-3.5) and saved["config"]["seed"] == 3
    assert saved["config"]["model_kwargs"] == {"hidden_dim": 16, "n_layers": 1, "dropout": 0.0}
    config.resume_from, config.max_steps = tmp_path / "final.pt", np.int64(3)  # type: ignore[assignment]
    assert train_policy(config)["step"] == 3


def test_a_trainer_of_ones_own(tmp_path: Path) -> None:
    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"loss": (batch["x"] * self.weight).mean()}

    loader = DataLoader([{"x": torch.ones(1)}] * 8, batch_size=4)
    trainer = Trainer(Scores(), loader, settings(tmp_path, model_kwargs={"n": np.int64(3)}))
    trainer.eval_fn = lambda model: {"score": np.array([0.5]), "other": np.float32(2)}
    assert trainer.train()["score"] == 0.5
    for kwargs in ({"layer": nn.ReLU}, {"sizes": {1, 2}}):
        with pytest.raises(UserError, match=r"could not be saved.*model_kwargs"):
            Trainer(Scores(), loader, settings(tmp_path / "b", model_kwargs=kwargs))
    assert not (tmp_path / "b").exists()


def test_a_model_that_cannot_be_saved_is_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: Any
) -> None:
    class Mine(nn.Module):
        def __init__(self, state_dim: int = 3, layer: Any = nn.ReLU) -> None:
            super().__init__()
            self.layer = nn.Linear(state_dim, 4)

        def forward(self, batch: Any) -> Any:
            raise AssertionError("a step was made")

    register_model("mine")(Mine)
    with pytest.raises(UserError, match="layer"):
        train_policy(settings(tmp_path / "c", model_name="mine", model_kwargs={"layer": nn.Tanh}))
    assert not (tmp_path / "c").exists()
    assert create_model("mine", layer=nn.Tanh).registered == ("mine", {"layer": nn.Tanh})
