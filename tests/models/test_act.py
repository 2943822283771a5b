from __future__ import annotations

import torch

from simscaleai.models.act import ActionChunkingTransformer


def make(**kwargs: object) -> ActionChunkingTransformer:
    torch.manual_seed(0)
    sizes = {"state_dim": 5, "embed_dim": 32, "num_heads": 2, "action_horizon": 4, "dropout": 0.0}
    return ActionChunkingTransformer(**{**sizes, **kwargs})  # type: ignore[arg-type]


def batch() -> dict:
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    return {
        "observations": {"state": torch.randn(2, 5)},
        "actions": torch.randn(2, 4, 4),
        "mask": mask,
    }


def test_padding_is_neither_learned_nor_seen() -> None:
    model, data = make(), batch()
    torn = data["actions"].clone()
    torn[~data["mask"]] = 99.0
    losses = []
    for actions in (data["actions"], torn):
        torch.manual_seed(1)
        out = model({**data, "actions": actions})
        losses.append((out["loss"], out["kl"]))
    torch.testing.assert_close(*losses)


def test_loss_is_absolute_error_and_divergence() -> None:
    model, data = make(kl_weight=3.0), batch()
    out = model(data)
    torch.testing.assert_close(out["loss"].detach(), out["action_mae"] + 3.0 * out["kl"])
    mask = data["mask"]
    by_hand = (out["predicted_actions"] - data["actions"]).abs()[mask].mean()
    torch.testing.assert_close(out["action_mae"], by_hand.detach())


def test_acting_and_evaluating_take_the_mean_of_the_prior() -> None:
    model, data = make().eval(), batch()
    out = model(data)
    assert "kl" not in out
    assert torch.equal(out["predicted_actions"], model.predict(data["observations"]))


def test_without_a_latent_there_is_no_autoencoder() -> None:
    model = make(latent_dim=0)
    out = model(batch())
    assert "kl" not in out and not any("style" in name for name, _ in model.named_parameters())


def test_images_are_tokens() -> None:
    model = make(cameras=["front", "wrist"], image_size=16)
    assert model.obs_keys == ("state", "images/front", "images/wrist")
    data = batch()
    data["observations"] |= {k: torch.rand(2, 3, 16, 16) for k in model.obs_keys[1:]}
    model(data)["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    alone = make(state_dim=0, use_image=True, image_size=16)
    assert alone.obs_keys == ("image",)
    assert alone.predict({"image": torch.rand(2, 3, 16, 16)}).shape == (2, 4, 4)
