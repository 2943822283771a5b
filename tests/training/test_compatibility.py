"""What does not fit is told, all of it, in one sentence."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from simscaleai.contract import EnvContract
from simscaleai.errors import UserError
from simscaleai.models import create_model
from simscaleai.models.policy import ModelPolicy
from simscaleai.observations import ObsSpec
from simscaleai.storage.checkpoint import load_checkpoint, save_checkpoint
from simscaleai.training import TrainConfig, Trainer
from simscaleai.training.compatibility import other_settings, policy_differences, tensor_differences
from simscaleai.training.data.dummy import DummyTrajectoryDataset
from simscaleai.training.data.loader import make_loader


def trainer(
    folder: Path, shapes: dict[str, tuple[int, ...]], env_name: str, rate: float, **kwargs: Any
) -> Trainer:
    model_kwargs = {"hidden_dim": kwargs.pop("hidden_dim", 16), "n_layers": 2}
    resume_from = kwargs.pop("resume_from", None)
    spec = ObsSpec(shapes, dict.fromkeys(shapes, "float32"))
    width = spec.state_dim
    contract = EnvContract(env_name, {}, dict(spec.shapes), dict(spec.dtypes), 4, rate)
    model = ModelPolicy(create_model("bc", state_dim=width, **model_kwargs), spec, None, contract)
    config = TrainConfig(
        batch_size=8,
        max_steps=2,
        device="cpu",
        checkpoint_dir=str(folder),
        resume_from=resume_from,
        show_progress=False,
        use_tensorboard=False,
    )
    return Trainer(model, make_loader(DummyTrajectoryDataset(16, obs_dim=width), 8), config)


def test_model_data_and_environment_in_one_error(tmp_path: Path) -> None:
    trainer(tmp_path / "a", {"ee_pos": (3,), "target": (3,)}, "reach", 0.05).train()
    with pytest.raises(UserError) as error:
        trainer(
            tmp_path / "b",
            {"ee_pos": (4,), "object": (3,)},
            "pick_place",
            0.1,
            hidden_dim=32,
            resume_from=str(tmp_path / "a/final.pt"),
        )
    text = str(error.value)
    for part in (
        "the model's hidden_dim is 16, here 32",
        "the model's state_dim is 6, here 7",
        "observation 'ee_pos' is [3], here [4]",
        "observation 'object' is not there, here [3]",
        "observation 'target' is [3], here not there",
        "the environment is 'reach', here 'pick_place'",
        "control_dt is 0.1 s, expected 0.05 s",
        "model.head.net.0.weight has shape (16, 6), expected (32, 7)",
    ):
        assert part in text, part
    assert text.count("observation 'ee_pos'") == 1 and "\n" not in text
    assert not (tmp_path / "b").exists()


def test_another_model_is_named_without_its_arguments() -> None:
    about = {"model_name": "bc", "model_kwargs": {}}
    assert policy_differences({**about, "model_name": "vla"}, about) == [
        "the model is 'vla', here 'bc'"
    ]
    # What was left to its default is the same as the default.
    assert policy_differences({**about, "model_kwargs": {"hidden_dim": 256}}, about) == []


def test_tensors() -> None:
    own = {("weights", "a"): (2,), ("optimizer", "a", "exp_avg"): (2,), ("raw_weights", "a"): (2,)}
    assert tensor_differences(own, own) == []
    assert tensor_differences({("weights", "a"): (2,)}, own) == []  # no steps made, no average
    saved = {
        ("weights", "b"): (2,),
        ("optimizer", "a", "exp_avg"): (3,),
        ("optimizer", "a", "x"): (),
    }
    assert tensor_differences(saved, own) == [
        "optimizer a exp_avg has shape (3,), expected (2,)",
        "optimizer a x is not known",
        "a is missing",
        "b is not known",
    ]


def test_settings_of_no_consequence_are_not_told() -> None:
    saved = asdict(TrainConfig())
    own = asdict(TrainConfig(lr=0.5, device="cpu", log_every=7, strategy="fsdp2", max_steps=5))
    assert other_settings(saved, own) == ["lr 0.5 (was 0.0001)", "max_steps 5 (was 100000)"]


@pytest.mark.parametrize(
    "change",
    [
        {"step": "7"},
        {"data": {}},
        {"data": {"epoch": 0.5, "position": 0}},
        {"random": {}},
        {"random": [{}]},
        {"metrics": None},
        {"best": []},
        {"policy": {"model_name": "bc"}},
        {"policy": {"model_name": 3, "model_kwargs": {}}},
        {"weights": []},
        {"weights": {"head.net.0.weight": "text"}},
        {"optimizer": {"head.net.0.weight": {"exp_avg": torch.zeros(1)}}},
        {"optimizer": {"head.net.0.weight": 3}},
        {"scaler": 1},
        {"config": None},
    ],
    ids=str,
)
def test_what_is_not_as_it_should_be_is_one_error(tmp_path: Path, change: dict[str, Any]) -> None:
    def bare(**kwargs: Any) -> Trainer:
        model = create_model("bc", state_dim=5, hidden_dim=16, n_layers=2)
        config = TrainConfig(
            batch_size=8,
            max_steps=2,
            device="cpu",
            checkpoint_dir=str(tmp_path),
            show_progress=False,
            use_tensorboard=False,
            **kwargs,
        )
        return Trainer(model, make_loader(DummyTrajectoryDataset(16, obs_dim=5), 8), config)

    bare().train()
    payload = load_checkpoint(tmp_path / "final.pt")
    payload.pop("format_version")
    save_checkpoint(tmp_path / "changed.pt", {**payload, **change})
    with pytest.raises(UserError):
        bare(resume_from=str(tmp_path / "changed.pt")).train()
