from __future__ import annotations

import pytest
import torch

from simscaleai.errors import UserError
from simscaleai.models.policy_heads.distilled_flow import TEACHER_STEPS, WHOLE_STEP, DistilledFlow
from simscaleai.models.policy_heads.flow_head import make_flow
from simscaleai.models.policy_heads.rectified_flow import RectifiedFlow


def test_the_whole_step_is_one_call_and_more_steps_are_the_flow() -> None:
    levels = []

    def velocity(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        levels.append(level[0].item())
        return torch.full_like(x, 0.25)

    noise = torch.zeros(2, 1, 3, 4)
    assert (DistilledFlow(1).sample(velocity, noise) == 0.25).all()
    assert levels == [WHOLE_STEP]
    levels.clear()
    assert torch.equal(
        DistilledFlow(2).sample(velocity, noise), RectifiedFlow(2).sample(velocity, noise)
    )
    assert levels == [0, 50, 0, 50]  # t = 0 and 1/2 of 100


def test_the_loss_by_hand() -> None:
    """A flow of constant velocity v: from noise e it leads to e + v, and the whole step is right with v."""
    calls = []

    def velocity(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        v = torch.full_like(x, 0.01)
        return torch.where(level.view(-1, 1, 1) == WHOLE_STEP, v + 0.4, v)

    process = DistilledFlow()
    # 400 samples, of which 100 learn the whole step, whose errors are 0.4 all over: almost 0.4 - 0.03.
    # The noise is scaled down to 0 so that the ends are within [-1, 1], and actions of 0.01 fit the velocity.
    actions = torch.full((400, 3, 4), 0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", torch.zeros_like)
        loss, predicted = process.loss(velocity, actions, None)
    assert calls == [100] * TEACHER_STEPS + [400]
    whole = (0.4**2 + 0.03**2) ** 0.5 - 0.03
    assert loss.item() == pytest.approx(whole / 4, abs=1e-5)
    assert predicted.shape == actions.shape
    # padding counts in neither part
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", torch.zeros_like)
        torn = torch.cat([actions, torch.full((400, 1, 4), 0.9)], dim=1)
        mask = torch.tensor([True, True, True, False]).expand(400, 4)
        masked, _ = process.loss(velocity, torn, mask)
    assert masked.item() == pytest.approx(loss.item(), abs=1e-6)


def test_a_small_batch_learns_the_flow_alone() -> None:
    def velocity(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        assert (level >= 0).all()
        return torch.zeros_like(x)

    loss, _ = DistilledFlow().loss(velocity, torch.rand(3, 2, 4), None)
    assert loss > 0


def test_flows_by_name() -> None:
    assert type(make_flow("rectified", 5)) is RectifiedFlow
    assert type(make_flow("distilled", 1)) is DistilledFlow
    with pytest.raises(UserError, match="flow objective 'straight'; known: distilled, rectified"):
        make_flow("straight", 1)
    with pytest.raises(UserError, match="num_inference_steps is 0"):
        make_flow("distilled", 0)
