from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from simscaleai.errors import UserError
from simscaleai.models.policy_heads.by_name import make_head
from simscaleai.models.policy_heads.chunks import head_actions, head_outputs, masked_mean
from simscaleai.models.policy_heads.diffusion_head import (
    DiffusionActionHead,
    ResidualBlock,
    SinusoidalPosEmbed,
)
from simscaleai.models.policy_heads.flow_head import FlowMatchingActionHead
from simscaleai.models.policy_heads.rectified_flow import RectifiedFlow

SAMPLERS = [DiffusionActionHead, FlowMatchingActionHead]


@pytest.mark.parametrize("head_class", SAMPLERS)
def test_defaults_work_as_documented(head_class: Any) -> None:
    head = head_class()
    features, actions = torch.randn(5, 256), torch.rand(5, 4) * 2 - 1
    learned = head(features, actions)
    assert learned["predicted_actions"].shape == (5, 4)
    learned["loss"].backward()
    assert all(p.grad is not None for p in head.parameters())
    out = head(features)
    assert out.keys() == {"loss", "predicted_actions"} and out["loss"] == 0
    assert out["predicted_actions"].shape == (5, 4) and out["predicted_actions"].abs().max() <= 1


@pytest.mark.parametrize("kind", ["mlp", "diffusion", "flow", "one_step_flow"])
def test_chunks_and_padding(kind: str) -> None:
    head = make_head(kind, 6, 2, 16, 1, 0.0, 3)
    features, actions = torch.randn(4, 6), torch.rand(4, 3, 2)
    mask = torch.tensor([[True, True, False]] * 4)
    torn = actions.clone()
    torn[:, 2] = 77.0
    losses = []
    for chunk in (actions, torn):
        torch.manual_seed(0)
        out = head_outputs(head, features, chunk, mask, F.mse_loss)
        assert out["predicted_actions"].shape == (4, 3, 2)
        losses.append(out["loss"].item())
    # A perceptron that denoises sees the padding in its input, but no error there counts.
    assert losses[0] < 10 and losses[1] < 1000
    if kind == "mlp":
        assert losses[0] == losses[1]
    assert head_actions(head, features).shape == (4, 3, 2)


def test_masked_mean_by_hand() -> None:
    errors = torch.tensor([[[1.0, 3.0], [100.0, 100.0]], [[2.0, 2.0], [4.0, 6.0]]])
    mask = torch.tensor([[True, False], [True, True]])
    assert masked_mean(errors, mask).item() == pytest.approx((1 + 3 + 2 + 2 + 4 + 6) / 6)
    assert masked_mean(errors, None) == errors.mean()
    assert masked_mean(errors, torch.zeros(2, 2, dtype=torch.bool)) == 0


@pytest.mark.parametrize("head_class", SAMPLERS)
def test_samples_follow_from_the_noise_alone(head_class: Any) -> None:
    head = head_class(8, 2, 16, 1, action_horizon=3).eval()
    features = torch.randn(4, 8)
    before = torch.get_rng_state()
    assert torch.equal(head_actions(head, features), head_actions(head, features))
    assert torch.equal(before, torch.get_rng_state())
    noise = torch.randn(4, *head.noise_shape)
    whole = head_actions(head, features, noise)
    torch.testing.assert_close(head_actions(head, features[1:2], noise[1:2]), whole[1:2])
    assert not torch.allclose(whole, head_actions(head, features))


def fitted(head: Any, steps: int, lr: float = 3e-3, batch: int = 256) -> Any:
    """Trained where both -0.8 and 0.6 are right, whatever is seen."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(head.parameters(), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        actions = torch.where(torch.rand(batch, 1) < 0.5, -0.8, 0.6) + 0.02 * torch.randn(batch, 1)
        out = head_outputs(head, torch.zeros(batch, 2), actions, None, F.mse_loss)
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
        schedule.step()
    return head.eval()


# of 500 samples, the least at each of the two ways, and at either of them
@pytest.mark.parametrize(
    ("kind", "each", "either"),
    [
        ("diffusion", 0.4, 0.9),
        ("flow", 0.4, 0.9),
        pytest.param("one_step_flow", 0.3, 0.7, marks=pytest.mark.slow),
    ],
)
def test_both_ways_are_kept(kind: str, each: float, either: float) -> None:
    width, *training = {
        "diffusion": (32, 300, 1e-2, 128),
        "flow": (64, 400),
        "one_step_flow": (64, 700),
    }[kind]
    torch.manual_seed(0)  # of the first weights
    head = fitted(make_head(kind, 2, 1, width, 2, 0.0, 1), *training)
    if kind == "flow":
        head.process.num_inference_steps = 20  # in 5 steps one in nine ends between the two

    def near(wanted: float) -> torch.Tensor:
        torch.manual_seed(1)
        drawn = head(torch.zeros(500, 2))["predicted_actions"][:, 0].detach()
        return (drawn - wanted).abs() < 0.15

    left, right = near(-0.8).float().mean(), near(0.6).float().mean()
    assert left > each and right > each and left + right > either
    if kind == "one_step_flow":
        # One step of the plain flow ends at the mean; where both ways are kept, nothing does.
        head.process = RectifiedFlow(1)
        assert near(-0.1).float().mean() > 0.7


def test_regression_gives_their_mean() -> None:
    torch.manual_seed(0)
    head = fitted(make_head("mlp", 2, 1, 64, 2, 0.0, 1), 200)
    assert head(torch.zeros(1, 2)).item() == pytest.approx(-0.1, abs=0.08)


def test_flow_moves_a_gaussian_by_its_closed_form() -> None:
    mean, std = 0.3, 0.15
    process = RectifiedFlow(100)

    def velocity(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """E[x0 - e | x_t] for x0 ~ N(mean, std^2)."""
        t = (level / 100).view(-1, 1, 1)
        gain = (t * std**2 - (1 - t)) / (t**2 * std**2 + (1 - t) ** 2)
        return mean + gain * (x - t * mean)

    drawn = process.sample(velocity, torch.randn(20_000, 1, 1, 1))
    assert drawn.mean().item() == pytest.approx(mean, abs=0.01)
    assert drawn.std().item() == pytest.approx(std, rel=0.1)


def test_positions_and_blocks() -> None:
    out = SinusoidalPosEmbed(8)(torch.tensor([0, 3]))
    assert out.shape == (2, 8)
    assert out[0].tolist() == [0.0] * 4 + [1.0] * 4
    # wavelengths of 2 pi and of 2 pi 10,000 at the ends
    assert out[1, 0].item() == pytest.approx(torch.tensor(3.0).sin().item())
    assert out[1, 3].item() == pytest.approx(3e-4)
    assert ResidualBlock(4, 9, 4)(torch.randn(2, 5, 4)).shape == (2, 5, 4)
    assert ResidualBlock(4, 9, 6)(torch.randn(2, 4)).shape == (2, 6)


def test_unknown_heads_list_the_known() -> None:
    with pytest.raises(
        UserError, match="head type 'gmm'; known: diffusion, flow, mlp, one_step_flow"
    ):
        make_head("gmm", 2, 1, 8, 1, 0.0, 1)
