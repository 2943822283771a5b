"""Rectified flow that also learns where it leads, so that one step is enough.

One Euler step of plain flow from pure noise ends at the mean of the data, since noise says nothing
about it. So the network also learns the whole way at once: from noise e to the end of
`TEACHER_STEPS` Euler steps of its own velocity. It learns both together; the whole step is one more
level of noise:

    velocity(x_t, t)          x0 - e, from the data, as in `rectified_flow`
    velocity(e, WHOLE_STEP)   (x0 where the flow leads from e) - e, from the network itself

Learning the end of the flow is the distillation of Liu et al., "Flow Straight and Fast", ICLR 2023.
Learning it beside the flow, by a network that knows the length of a step, follows Frans et al., "One
Step Diffusion via Shortcut Models", ICLR 2025. The loss of the whole step is pseudo-Huber (Song and
Dhariwal, "Improved Techniques for Training Consistency Models", ICLR 2024): a small change of the
noise may lead to another of several good chunks, and squared errors would blur that edge.

Trap: a batch of fewer than `WHOLE_STEPS` samples teaches no whole step.
"""

from __future__ import annotations

import torch

from simscaleai.models.policy_heads.chunks import masked_mean
from simscaleai.models.policy_heads.process import Denoiser
from simscaleai.models.policy_heads.rectified_flow import LEVELS, RectifiedFlow

WHOLE_STEP = -LEVELS  # a level that no time in [0, 1] has
WHOLE_STEPS = 4  # one sample in so many learns the whole step
TEACHER_STEPS = (
    10  # twice those of `RectifiedFlow`: what is learned is better than what 5 steps give
)
HUBER = 0.03  # of actions in [-1, 1]: errors above it count linearly


class DistilledFlow(RectifiedFlow):
    """A flow that samples in one learned step, or in several of its own; see the module.

    Args:
      num_inference_steps: 1 for the learned step, more for Euler steps.
    """

    def __init__(self, num_inference_steps: int = 1) -> None:
        super().__init__(num_inference_steps)

    def loss(
        self, velocity: Denoiser, actions: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean loss of velocities and whole steps, and the x0 (B, L, A) that each leads to."""
        n = len(actions)
        count = n // WHOLE_STEPS  # the first ones of the batch, which is in random order
        noise = torch.randn_like(actions)
        t = torch.rand(n, device=actions.device)
        t[:count] = 0
        level = t * LEVELS
        level[:count] = WHOLE_STEP
        ends = actions.clone()
        with torch.no_grad():
            ends[:count] = self.walk(velocity, noise[:count], TEACHER_STEPS)
        along = t.view(-1, 1, 1)
        noisy = torch.lerp(noise, actions, along)  # noise alone where a whole step is learned
        predicted = velocity(noisy, level)
        errors = (predicted - (ends - noise)).square()  # (B, L, A)
        loss = masked_mean(errors[count:], None if mask is None else mask[count:])
        if count:
            whole = _per_sample(errors[:count], None if mask is None else mask[:count])
            huber = (whole + HUBER**2).sqrt() - HUBER  # (count,)
            loss = torch.lerp(loss, huber.mean(), count / n)
        return loss, noisy + (1 - along) * predicted

    def sample(self, velocity: Denoiser, noise: torch.Tensor) -> torch.Tensor:
        """Return chunks (B, L, A) within [-1, 1] from normal numbers (B, 1, L, A)."""
        if self.num_inference_steps > 1:
            return super().sample(velocity, noise)
        x = noise[:, 0]
        level = torch.full((len(x),), WHOLE_STEP, device=x.device)
        return (x + velocity(x, level)).clamp(-1.0, 1.0)


def _per_sample(errors: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return the mean over each chunk (B, L, A) where `mask` (B, L) is True, (B,)."""
    if mask is None:
        return errors.mean((1, 2))
    weights = mask.to(errors.dtype)
    return (errors.mean(2) * weights).sum(1) / weights.sum(1).clamp(min=1)
