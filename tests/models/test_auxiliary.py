"""Positions as auxiliary targets: in the loss, and in the whole of training and acting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simscaleai.errors import UserError
from simscaleai.models.auxiliary import AuxiliaryPositions
from simscaleai.models.policy import ModelPolicy
from simscaleai.training import TrainConfig, build_trainer

MODELS = ["act:debug", "bc:debug", "diffusion:debug", "flow:debug"]


def test_the_loss_is_of_positions_relative_to_the_hand() -> None:
    auxiliary = AuxiliaryPositions(4, ["object_pos"], weight=2.0)
    positions = {
        "ee_pos": torch.tensor([[0.5, 0.0, 0.2]]),
        "object_pos": torch.tensor([[0.5, 0.1, 0.2]]),
    }
    offsets = torch.tensor(
        [[[0.03, 0.14, 0.0]]], requires_grad=True
    )  # m, where (0, 0.1, 0) is right
    batch: Any = {"privileged": positions}
    outputs = auxiliary.add_loss({"loss": torch.tensor(1.0)}, offsets, batch)
    # errors of 3, 4 and 0 cm over 5 cm: (0.6^2 + 0.8^2) / 2 over 3 numbers
    assert outputs["auxiliary_loss"].item() == pytest.approx(0.5 / 3)
    assert outputs["loss"].item() == pytest.approx(1 + 2 * 0.5 / 3)
    assert outputs["object_pos_error_cm"].item() == pytest.approx(5.0)  # 3, 4, 5
    assert outputs["loss"].requires_grad and not outputs["auxiliary_loss"].requires_grad


def test_the_features_are_lengths_and_their_tanh() -> None:
    auxiliary = AuxiliaryPositions(4, ["object_pos"])
    offsets = torch.tensor([[[0.05, 0.01, 0.0]]])
    features = auxiliary.features(offsets)
    expected = [0.25, 0.05, 0, *np.tanh([5, 1, 0]), *np.tanh([1, 0.2, 0])]
    torch.testing.assert_close(features, torch.tensor([expected], dtype=torch.float32))
    assert features.shape[1] == auxiliary.width


def test_what_is_refused() -> None:
    for keys in ([], ["ee_pos"], ["a", "a"]):
        with pytest.raises(UserError, match="auxiliary is"):
            AuxiliaryPositions(4, keys)
    with pytest.raises(UserError, match="auxiliary_weight is 0"):
        AuxiliaryPositions(4, ["a"], weight=0)
    batch: Any = {}
    with pytest.raises(UserError, match="no 'privileged' positions"):
        AuxiliaryPositions(4, ["a"]).add_loss({}, torch.zeros(1, 1, 3), batch)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from simscaleai.datagen import generate_dataset

    path = tmp_path_factory.mktemp("data") / "pick_place.h5"
    generate_dataset(
        "pick_place",
        4,
        str(path),
        "scripted",
        False,
        cameras=["wrist_cam"],
        image_size=16,
        show_progress=False,
    )
    return path


def settings(model: str, dataset: Path, folder: Path, **model_kwargs: Any) -> TrainConfig:
    return TrainConfig(
        model,
        {"use_image": True, "auxiliary": ["object_pos", "target_pos"], **model_kwargs},
        dataset_path=str(dataset),
        state_keys=["ee_pos", "gripper_state"],
        max_steps=2,
        eval_every=2,
        log_every=1,
        batch_size=8,
        checkpoint_dir=str(folder),
        show_progress=False,
        use_tensorboard=False,
        device="cpu",
    )


@pytest.mark.parametrize("model", MODELS)
def test_a_policy_learns_from_positions_and_acts_without_them(
    model: str, dataset: Path, tmp_path: Path
) -> None:
    trainer = build_trainer(settings(model, dataset, tmp_path))
    metrics = trainer.train()
    # No prediction is right after two steps, and none is worse than the size of the table.
    assert 1 < metrics["object_pos_error_cm"] < 100
    assert 1 < metrics["eval_target_pos_error_cm"] < 100
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert records[0]["loss"] > records[0]["auxiliary_loss"] > 0
    policy = ModelPolicy.from_checkpoint(tmp_path / "final.pt", device="cpu")
    assert policy.spec is not None and set(policy.spec.shapes) == {
        "ee_pos",
        "gripper_state",
        "image",
    }
    rng = np.random.default_rng(0)
    obs = {
        "ee_pos": rng.uniform(0.2, 0.5, (2, 3)).astype(np.float32),
        "gripper_state": np.ones((2, 1), np.float32),
        "image": rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8),
    }
    actions = policy.act(obs)
    assert actions.shape == (2, 4)
    # Positions that an environment gives besides are not read.
    policy.reset(np.ones(2, bool), [0, 0])
    first = policy.act(obs)
    policy.reset(np.ones(2, bool), [0, 0])
    true = dict.fromkeys(["object_pos", "target_pos"], np.full((2, 3), 9.0, np.float32))
    np.testing.assert_array_equal(policy.act({**obs, **true}), first)


def test_a_dataset_without_the_positions_is_refused(dataset: Path, tmp_path: Path) -> None:
    wrong = settings(
        "bc:debug", dataset, tmp_path, auxiliary=["object_pos", "gripper_state", "cup_pos"]
    )
    with pytest.raises(
        UserError, match=r"positions gripper_state, cup_pos, which .* object_pos, target_pos"
    ):
        build_trainer(wrong)


def test_synthetic_data_have_them_too(tmp_path: Path) -> None:
    config = TrainConfig(
        "bc:debug",
        {"auxiliary": ["cup_pos"]},
        max_steps=1,
        batch_size=4,
        checkpoint_dir=str(tmp_path),
        show_progress=False,
        device="cpu",
    )
    assert build_trainer(config).train()["auxiliary_loss"] > 0
