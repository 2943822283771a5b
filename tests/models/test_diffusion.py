"""`diffusion` and `flow`, which differ in their process alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from simscaleai.errors import UserError
from simscaleai.models import create_model

ONE_STEP = {"objective": "distilled", "num_inference_steps": 1}
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("diffusion", {}),
    ("flow", {}),
    ("flow", ONE_STEP),
    ("flow", {**ONE_STEP, "denoiser": "mlp"}),
]


@pytest.mark.parametrize(("name", "kwargs"), MODELS)
def test_images_and_past_observations_are_read(name: str, kwargs: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model: Any = create_model(
        f"{name}:debug",
        state_dim=5,
        use_image=True,
        image_size=16,
        n_obs_steps=2,
        random_shift=1,
        **kwargs,
    )
    assert model.obs_keys == ("state", "image")
    obs = {"state": torch.randn(4, 2, 5), "image": torch.rand(4, 2, 3, 16, 16)}
    data = {"observations": obs, "actions": torch.rand(4, 8, 4)}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(3):  # gates are zero at first
        model(data)["loss"].backward()
        optimizer.step()
    before = model.predict(obs)
    assert before.shape == (4, 8, 4) and before.abs().max() <= 1
    for key in obs:
        past = obs[key].clone()
        past[:, 0] = torch.rand_like(past[:, 0])
        assert not torch.equal(before, model.predict({**obs, key: past})), key


@pytest.mark.parametrize(("name", "kwargs"), MODELS)
def test_padding_does_not_count(name: str, kwargs: dict[str, Any]) -> None:
    model: Any = create_model(f"{name}:debug", state_dim=5, n_obs_steps=1, **kwargs)
    mask = torch.zeros(4, 8, dtype=torch.bool)
    data = {"observations": {"state": torch.randn(4, 5)}, "actions": torch.rand(4, 8, 4)}
    assert model({**data, "mask": mask})["loss"] == 0
    mask[:, 0] = True
    torch.manual_seed(0)
    first = model({**data, "mask": mask})
    torch.manual_seed(0)
    whole = model(data)
    assert torch.equal(first["predicted_actions"], whole["predicted_actions"])
    assert first["loss"] != whole["loss"]


def test_one_action_at_a_time_works_too() -> None:
    model: Any = create_model("diffusion:debug", action_horizon=1, n_action_steps=1, n_obs_steps=1)
    data = {"observations": {"state": torch.randn(2, 20)}, "actions": torch.rand(2, 4)}
    assert model(data)["predicted_actions"].shape == (2, 1, 4)


def test_the_mlp_denoiser_runs_a_third_of_the_kernels() -> None:
    obs = {"state": torch.randn(8, 20)}
    counts = []
    for denoiser in ("transformer", "mlp"):
        model: Any = create_model("flow", n_obs_steps=1, denoiser=denoiser, **ONE_STEP)
        with torch.profiler.profile() as profile:
            model.predict(obs)
        counts.append(sum(event.count for event in profile.key_averages()))
    assert counts[1] < counts[0] / 3
    with pytest.raises(UserError, match="denoiser 'unet'; known: mlp, transformer"):
        create_model("flow", denoiser="unet")
