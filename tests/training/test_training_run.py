from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from simscaleai.errors import UserError
from simscaleai.models import create_model, register_model
from simscaleai.models.policy import ModelPolicy
from simscaleai.storage.checkpoint import load_checkpoint
from simscaleai.training import TrainConfig, build_trainer, train_policy
from simscaleai.training.data.dataset import TrajectoryDataset
from simscaleai.training.run_config import RunConfig, load_run
from simscaleai.training.training_run import run_trainer

Make = Callable[..., Path]
BC_DEFAULTS = {
    "use_image": False,
    "image_channels": 3,
    "image_size": 128,
    "image_embed_dim": 128,
    "dropout": 0.1,
    "loss_type": "mse",
    "action_horizon": 1,
    "n_action_steps": 1,
    "head_type": "mlp",
    "random_shift": 0,
    "color_jitter": 0.0,
    "backbone": "conv",
    "backbone_width": 32,
    "encoder_per_camera": True,
    "auxiliary_weight": 1.0,
}


def config(folder: Path, dataset: Path | str, **kwargs: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "dataset_path": str(dataset),
        "model_kwargs": {"hidden_dim": 16, "n_layers": 2},
        "batch_size": 4,
        "num_workers": 0,
        "max_steps": 6,
        "warmup_steps": 0,
        "device": "cpu",
        "show_progress": False,
        "checkpoint_dir": str(folder / "ck"),
    }
    return TrainConfig(**{**base, **kwargs})


def raw_obs(path: Path, i: int) -> dict[str, np.ndarray]:
    """All observations of episode i, with entries that a policy does not know of."""
    with h5py.File(path) as file:
        obs = {k: v[:] for k, v in file[f"data/demo_{i}/obs"].items()}
    return {**obs, "unknown": np.zeros((len(obs["ee_pos"]), 2), np.float32)}


def test_checkpoint_alone_gives_the_trained_policy(make_dataset: Make, tmp_path: Path) -> None:
    path = make_dataset()
    trainer = build_trainer(config(tmp_path, path, lr=1e-2))
    metrics = trainer.train()
    assert {"loss", "eval_loss"} <= metrics.keys()
    policy = ModelPolicy.from_checkpoint(tmp_path / "ck/final.pt", device="cpu")
    obs = raw_obs(path, 2)
    actions = policy.act(obs)
    assert actions.shape == (7, 4) and actions.dtype == np.float32
    np.testing.assert_array_equal(actions, trainer.model.act(obs))

    # The same by hand: normalize with the statistics of the training split, then the bare network.
    stats = TrajectoryDataset(path, split="train").statistics()["state"]
    state = np.concatenate([obs[k] for k in ("ee_pos", "gripper_state", "target_pos")], 1)
    normalized = (torch.from_numpy(state) - stats.mean) / stats.std
    with torch.no_grad():
        expected = trainer.model.model.eval().head(normalized)
    np.testing.assert_allclose(actions, expected, atol=1e-6)

    contract = policy.contract
    assert contract is not None and contract.env_name == "pick_place"
    assert contract.env_config == {"dt": 0.005}
    assert contract.obs_shapes == {"ee_pos": (3,), "gripper_state": (1,), "target_pos": (3,)}


def test_dimensions_come_from_the_dataset_and_contradictions_are_listed(
    make_dataset: Make, tmp_path: Path
) -> None:
    path = make_dataset(image_size=16)
    trainer = build_trainer(config(tmp_path, path, model_kwargs={"use_image": True}))
    _, kwargs = trainer.model.model.registered
    assert kwargs == {
        "state_dim": 7, "action_dim": 4, "image_size": 16, "image_channels": 3, "use_image": True,
    }  # fmt: skip
    wrong = {"state_dim": 20, "action_dim": 4, "image_size": 128}
    with pytest.raises(UserError) as error:
        build_trainer(config(tmp_path, path, model_kwargs=wrong))
    assert "state_dim is 20, the dataset has 7" in str(error.value)
    assert "image_size is 128, the dataset has 16" in str(error.value)
    assert "action_dim" not in str(error.value)


def test_images_are_loaded_only_for_models_that_read_them(
    make_dataset: Make, tmp_path: Path
) -> None:
    path = make_dataset(image_size=16)
    blind = build_trainer(config(tmp_path, path, num_workers=4))
    assert blind.stream.loader.dataset.in_memory and blind.stream.loader.num_workers == 0
    assert "image" not in blind.model.contract.obs_shapes
    images: dict[str, Any] = {"model_kwargs": {"use_image": True}, "num_workers": 1}
    assert build_trainer(config(tmp_path, path, **images)).stream.loader.num_workers == 0
    seeing = build_trainer(config(tmp_path, path, **images, cache_mb=0))  # no room in memory
    assert seeing.stream.loader.num_workers == 1
    assert seeing.model.contract.obs_shapes["image"] == (16, 16, 3)
    with pytest.raises(UserError, match=r"reads image, which .* does not have"):
        build_trainer(config(tmp_path, make_dataset("b.h5"), model_kwargs={"use_image": True}))


def test_a_policy_learns_from_the_vectors_chosen_and_acts_on_them_alone(
    make_dataset: Make, tmp_path: Path
) -> None:
    path = make_dataset(image_size=16)
    images = {"use_image": True, "hidden_dim": 8}
    chosen = config(tmp_path, path, state_keys=["ee_pos", "gripper_state"], model_kwargs=images)
    trainer = build_trainer(chosen)
    assert trainer.model.model.registered[1]["state_dim"] == 4
    trainer.train()
    policy = ModelPolicy.from_checkpoint(tmp_path / "ck/final.pt", device="cpu")
    assert set(policy.contract.obs_shapes) == {"ee_pos", "gripper_state", "image"}
    obs = raw_obs(path, 2)
    elsewhere = {**obs, "target_pos": obs["target_pos"] + 1}
    np.testing.assert_array_equal(policy.act(obs), policy.act(elsewhere))
    for keys, message in (
        (["nothing"], r"Unknown observation of .*'nothing'; known: ee_pos"),
        (["image"], "state_keys names image; it takes vectors"),
    ):
        with pytest.raises(UserError, match=message):
            build_trainer(config(tmp_path, path, state_keys=keys))


@pytest.mark.parametrize("kwargs", [{}, {"state_dim": 0}])
def test_image_model_trains_and_acts(
    make_dataset: Make, tmp_path: Path, kwargs: dict[str, Any]
) -> None:
    path = make_dataset(image_size=16)
    cfg = config(tmp_path, path, model_kwargs={"use_image": True, "hidden_dim": 8, **kwargs})
    trainer = build_trainer(cfg)
    trainer.train()
    policy = ModelPolicy.from_checkpoint(tmp_path / "ck/final.pt", device="cpu")
    obs = raw_obs(path, 2)
    actions = policy.act(obs)
    np.testing.assert_array_equal(actions, trainer.model.act(obs))
    np.testing.assert_array_equal(actions[4:5], policy.act({k: v[4:5] for k, v in obs.items()}))
    batch = (
        TrajectoryDataset(path).__getitems__(range(8, 15)).batch
    )  # episode 2 as the trainer sees it
    with torch.no_grad():
        trained = trainer.model.eval()(dict(batch))["predicted_actions"]
    np.testing.assert_allclose(actions, trained, atol=1e-6)


def test_resumed_policy_run_is_bit_exact(make_dataset: Make, tmp_path: Path) -> None:
    path = make_dataset()
    whole = build_trainer(config(tmp_path, path, save_every=3))
    whole.train()
    resumed = build_trainer(config(tmp_path, path, resume_from=str(tmp_path / "ck/step_3.pt")))
    resumed.train()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


def test_a_named_run_has_a_folder_from_which_it_is_made_again(
    make_dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_dataset()
    monkeypatch.chdir(tmp_path)
    first = build_trainer(config(tmp_path, path, run_name="a", save_every=3))
    run_trainer(first, RunConfig.of(first.config))
    folder = tmp_path / "runs/a"
    there = {path.name for path in folder.iterdir()}
    assert there >= {"config.yaml", "run_info.json", "metrics.jsonl", "checkpoints"}
    assert (folder / "checkpoints/final.pt").exists()
    (start,) = json.loads((folder / "run_info.json").read_text())
    assert (start["start_step"], start["device"], start["processes"]) == (0, "cpu", 1)

    again = load_run(folder / "config.yaml", ["name=b"])
    assert again.model == {**first.model.model.registered[1], "name": "bc", **BC_DEFAULTS}
    train_policy(again.train_config())
    weights = [load_checkpoint(f"runs/{name}/checkpoints/final.pt")["weights"] for name in "ab"]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())

    longer = ["trainer.max_steps=8", "trainer.resume_from=auto", "name=a"]
    train_policy(load_run(folder / "config.yaml", longer).train_config())
    starts = json.loads((folder / "run_info.json").read_text())
    assert [start["start_step"] for start in starts] == [0, 6]
    assert load_run(folder / "config.yaml").trainer.max_steps == 8


def test_initial_weights_follow_the_seed(make_dataset: Make, tmp_path: Path) -> None:
    path = make_dataset()
    first = []
    for seed in (0, 0, 1):
        before = torch.get_rng_state()
        model = build_trainer(config(tmp_path, path, seed=seed)).model.model
        assert torch.equal(before, torch.get_rng_state())
        first.append(next(model.parameters()).detach().clone())
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])


def test_without_a_dataset_it_trains_on_made_up_data_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = train_policy(config(tmp_path, "", show_progress=True))
    assert "synthetic data" in capsys.readouterr().err
    assert metrics["loss"] > 0
    policy = ModelPolicy.from_checkpoint(tmp_path / "ck/final.pt", device="cpu")
    assert policy.act({"state": np.zeros((2, 20), np.float32)}).shape == (2, 4)


def test_plain_layout_without_contract(plain_dataset: Path, tmp_path: Path) -> None:
    train_policy(config(tmp_path, plain_dataset))
    policy = ModelPolicy.from_checkpoint(tmp_path / "ck/final.pt", device="cpu")
    assert policy.contract is None
    widths = {"ee_pos": 3, "gripper_state": 1, "target_pos": 3}
    assert policy.act({k: np.zeros((1, d), np.float32) for k, d in widths.items()}).shape == (1, 4)


def test_eval_fn_gets_a_policy(make_dataset: Make, tmp_path: Path) -> None:
    path = make_dataset()
    obs = raw_obs(path, 0)
    metrics = train_policy(
        config(tmp_path, path), lambda policy: {"spread": float(np.std(policy.act(obs)))}
    )
    assert metrics["spread"] > 0


def test_models_of_windows_and_language(make_dataset: Make, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    @register_model("test-chunks")
    class Chunks(nn.Module):
        """Three actions ahead, from the raw target and an instruction."""

        obs_keys = ("target_pos",)
        uses_language = True
        action_horizon = 3

        def __init__(self, action_dim: int = 4) -> None:
            super().__init__()
            self.net = nn.Linear(3, 3 * action_dim)

        def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
            seen.append(batch)
            predicted = self.net(batch["observations"]["target_pos"]).unflatten(1, (3, -1))
            errors = (predicted - batch["actions"]).square().mean(-1)[batch["mask"]]
            return {"loss": errors.mean(), "predicted_actions": predicted}

        def predict(
            self, obs: dict[str, torch.Tensor], language: list[str] | None = None
        ) -> torch.Tensor:
            # the check of instructions asks for those of the data while it trains
            assert set(language or []) in ({"go"}, {"task 0", "task 2", "task 3"})
            return self.net(obs["target_pos"]).unflatten(1, (3, -1))

    path = make_dataset()
    train_policy(config(tmp_path, path, model_name="test-chunks", model_kwargs={}))
    assert seen[0]["actions"].shape == (4, 3, 4) and seen[0]["mask"].shape == (4, 3)
    assert {t for b in seen for t in b["language"]} <= {f"task {i}" for i in range(5)}
    policy = ModelPolicy.from_checkpoint(tmp_path / "ck/final.pt", device="cpu")
    policy.reset(np.ones(5, dtype=bool), [0] * 5, ["go"] * 5)
    assert policy.act(raw_obs(path, 0)).shape == (5, 4)


def test_bare_model_trained_by_hand_can_act(make_dataset: Make, tmp_path: Path) -> None:
    from torch.utils.data import DataLoader

    from simscaleai.training import Trainer

    path = make_dataset()
    data = TrajectoryDataset(path)
    model = create_model("bc", state_dim=data.state_dim, hidden_dim=8)
    Trainer(model, DataLoader(data, batch_size=4, shuffle=True), config(tmp_path, "")).train()
    assert load_checkpoint(tmp_path / "ck/final.pt")["policy"]["model_kwargs"]["state_dim"] == 7
    policy = ModelPolicy.from_checkpoint(tmp_path / "ck/final.pt", device="cpu")
    obs = raw_obs(path, 2)
    del obs["unknown"]
    state = torch.from_numpy(
        np.concatenate([obs[k] for k in ("ee_pos", "gripper_state", "target_pos")], 1)
    )
    np.testing.assert_allclose(policy.act(obs), model.predict({"state": state}), atol=1e-6)


def test_misspelled_settings_are_clear(make_dataset: Make, tmp_path: Path) -> None:
    path = make_dataset()
    with pytest.raises(UserError, match=r"Unknown model 'bcc'; known: act, bc"):
        train_policy(config(tmp_path, path, model_name="bcc"))
    with pytest.raises(UserError, match=r"no argument 'hiden_dim'.*Did you mean 'hidden_dim'"):
        train_policy(config(tmp_path, path, model_kwargs={"hiden_dim": 3}))
    with pytest.raises(UserError, match="does not exist"):
        train_policy(config(tmp_path, tmp_path / "absent.h5"))
    assert not (tmp_path / "ck").exists()
