from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from simscaleai.errors import UserError
from simscaleai.models.bc import BehaviorCloning
from simscaleai.models.policy_heads.mlp_head import MLPActionHead


def batch(state_dim: int = 20, image_size: int = 0) -> dict[str, Any]:
    obs = {"state": torch.randn(6, state_dim)}
    if image_size:
        obs["image"] = torch.rand(6, 3, image_size, image_size)
    return {"observations": obs, "actions": torch.rand(6, 4) * 2 - 1}


def test_defaults_take_reach_and_return_the_documented_keys() -> None:
    out = BehaviorCloning()(batch())
    assert out.keys() == {"predicted_actions", "loss", "action_mse", "action_mae"}
    assert out["predicted_actions"].shape == (6, 4)
    assert out["loss"].shape == () and out["loss"].requires_grad
    assert not out["action_mse"].requires_grad


@pytest.mark.parametrize(
    "loss_type, function", [("mse", F.mse_loss), ("l1", F.l1_loss), ("huber", F.smooth_l1_loss)]
)
def test_losses(loss_type: str, function: Any) -> None:
    data = batch()
    out = BehaviorCloning(loss_type=loss_type)(data)
    error = out["predicted_actions"] - data["actions"]
    assert out["loss"] == function(out["predicted_actions"], data["actions"])
    assert out["action_mse"].item() == pytest.approx(error.square().mean().item())
    assert out["action_mae"].item() == pytest.approx(error.abs().mean().item())


def test_unknown_loss_lists_the_known() -> None:
    with pytest.raises(UserError, match="loss_type 'mes'; known: huber, l1, mse"):
        BehaviorCloning(loss_type="mes")


def test_of_a_window_the_first_action_counts() -> None:
    model = BehaviorCloning(dropout=0.0)
    data = batch()
    window = torch.stack([data["actions"], torch.full_like(data["actions"], 9.0)], 1)
    for actions in (window, window[:, :1]):
        assert model({**data, "actions": actions})["loss"] == model(data)["loss"]


@pytest.mark.parametrize("size", [8, 20, 64, 128])
def test_images(size: int) -> None:
    model = BehaviorCloning(use_image=True, image_size=size)
    assert model.obs_keys == ("state", "image")
    data = batch(image_size=size)
    model(data)["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    other = {**data["observations"], "image": torch.rand(6, 3, size, size)}
    assert not torch.equal(model.predict(data["observations"]), model.predict(other))


def test_image_alone_or_nothing() -> None:
    assert BehaviorCloning(state_dim=0, use_image=True).obs_keys == ("image",)
    with pytest.raises(UserError, match="sees nothing"):
        BehaviorCloning(state_dim=0)
    with pytest.raises(UserError, match="image_size is 4"):
        BehaviorCloning(use_image=True, image_size=4)


def test_predict_is_deterministic_and_leaves_mode_and_randomness_alone() -> None:
    model = BehaviorCloning(dropout=0.5)
    model.head.net[0].eval()  # a part that was frozen on purpose
    obs = batch()["observations"]
    before = torch.get_rng_state()
    first = model.predict(obs)
    assert torch.equal(first, model.predict(obs))
    assert torch.equal(before, torch.get_rng_state())
    assert model.training and model.head.training and not model.head.net[0].training
    assert not first.requires_grad and first.abs().max() <= 1


def test_head_has_the_asked_for_layers() -> None:
    head = MLPActionHead(input_dim=5, action_dim=3, hidden_dim=8, n_layers=2)
    shapes = [tuple(p.shape) for p in head.parameters() if p.ndim == 2]
    assert shapes == [(8, 5), (8, 8), (3, 8)]
    assert head(torch.randn(7, 5) * 1e3).abs().max() <= 1
    free = MLPActionHead(input_dim=5, n_layers=0, tanh_output=False)
    assert free(torch.full((1, 5), 1e3)).abs().max() > 1
