"""Positions as the hand sees them, in features and in a whole policy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from simscaleai.errors import UserError
from simscaleai.models.features import RelativePositions
from simscaleai.models.policy import ModelPolicy
from simscaleai.observations import ObsSpec
from simscaleai.training import TrainConfig, build_trainer

WIDTHS = {"ee_pos": 3, "gripper_state": 1, "joint_pos": 7, "object_pos": 3, "target_pos": 3}
SPEC = ObsSpec({k: (d,) for k, d in WIDTHS.items()}, dict.fromkeys(WIDTHS, "float32"))


def test_the_numbers() -> None:
    hand, cube, target = [0.5, 0.1, 0.2], [0.51, 0.1, 0.02], [0.5, 0.0, 0.3]
    state = torch.tensor([*hand, 0.08, *range(7), *cube, *target])
    offsets = torch.tensor([0.01, 0, -0.18, 0, -0.1, 0.1, -0.01, -0.1, 0.28])
    tanh = [(offsets / 0.01).tanh(), (offsets / 0.05).tanh()]
    expected = [torch.tensor([0.2, 0.02, 0.3]), offsets, *tanh, torch.tensor([0.08, *range(7)])]
    features = RelativePositions(SPEC)
    torch.testing.assert_close(features(state), torch.cat(expected))
    assert features.width == 3 + 3 * 9 + 8
    torch.testing.assert_close(features(state.expand(2, 5, -1))[1, 4], features(state))


def test_moving_everything_in_the_plane_changes_nothing() -> None:
    spec = ObsSpec(dict.fromkeys(("ee_pos", "object_pos"), (3,)), {})
    features = RelativePositions(spec)
    state, moved = torch.rand(8, 6), torch.tensor([0.3, -0.2, 0.0]).repeat(2)
    torch.testing.assert_close(features(state + moved), features(state), atol=1e-5, rtol=0)


def test_a_state_without_positions_is_an_error() -> None:
    with pytest.raises(
        UserError, match=r"needs 'ee_pos' and a position .* has joint_pos, target_pos"
    ):
        RelativePositions(ObsSpec({"joint_pos": (7,), "target_pos": (3,)}, {}))


def test_a_policy_is_trained_saved_and_resumed_with_them(tmp_path: Path) -> None:
    from simscaleai.datagen import generate_dataset

    path = tmp_path / "reach.h5"
    generate_dataset("reach", 3, str(path), "scripted", False, show_progress=False)
    settings = {
        "dataset_path": str(path),
        "state_keys": ["ee_pos", "target_pos"],
        "max_steps": 3,
        "checkpoint_dir": str(tmp_path / "run"),
        "show_progress": False,
        "use_tensorboard": False,
        "device": "cpu",
    }
    trainer = build_trainer(TrainConfig("bc:debug", relative_positions=True, **settings))
    trainer.train()
    policy = ModelPolicy.from_checkpoint(tmp_path / "run/final.pt", device="cpu")
    again = ModelPolicy.from_pretrained(policy.save_pretrained(tmp_path / "exported"), "cpu")
    rng = np.random.default_rng(0)
    obs = {k: rng.uniform(0.2, 0.5, (4, 3)).astype(np.float32) for k in ("ee_pos", "target_pos")}
    shift = np.array([0.125, -0.25, 0], np.float32)
    actions = policy.act(obs)
    np.testing.assert_array_equal(again.act(obs), actions)
    moved = policy.act({k: v + shift for k, v in obs.items()})
    np.testing.assert_allclose(moved, actions, atol=1e-4)
    further = policy.act({**obs, "target_pos": obs["target_pos"] + shift})
    assert np.abs(further - actions).max() > 1e-3
    assert np.ptp(actions) > 0
    batch = {k: torch.from_numpy(v) for k, v in obs.items()}
    batch = {**batch, "state": torch.cat([batch["ee_pos"], batch["target_pos"]], -1)}
    trained = trainer.model.eval()({"observations": batch, "actions": torch.zeros(4, 4)})
    predicted = trained["predicted_actions"].detach().numpy()
    np.testing.assert_allclose(predicted.clip(-1, 1), actions, atol=1e-6)
    plain = TrainConfig("bc:debug", resume_from=str(tmp_path / "run/final.pt"), **settings)
    with pytest.raises(UserError, match="relative_positions is True, here False"):
        build_trainer(plain).train()
