"""Flow matching of chunks of actions: a straight way from noise to the data, whatever network walks it.

Rectified flow (Liu et al., "Flow Straight and Fast", ICLR 2023; Lipman et al., "Flow Matching for Generative
Modeling", ICLR 2023): x_t = (1 - t) e + t x0 for t from 0, noise, to 1, data; the network learns the velocity
x0 - e, and sampling follows it in Euler steps.
"""

from __future__ import annotations

import torch
from torch import nn

from simscaleai.errors import UserError
from simscaleai.models.policy_heads.chunks import masked_mean
from simscaleai.models.policy_heads.process import Denoiser

LEVELS = 100.0  # t in [0, 1] is scaled to the range of noise levels that the networks embed


class RectifiedFlow(nn.Module):
    """Straight ways; it has no parameters, and the interface of `GaussianDiffusion`.

    Args:
      num_inference_steps: Euler steps.
    """

    draws = 1

    def __init__(self, num_inference_steps: int = 5) -> None:
        super().__init__()
        if num_inference_steps < 1:
            raise UserError(f"num_inference_steps is {num_inference_steps}; it must be at least 1.")
        self.num_inference_steps = num_inference_steps

    def loss(
        self, velocity: Denoiser, actions: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean squared error of the velocity at random times, and the x0 (B, L, A) it leads to."""
        t = torch.rand(len(actions), device=actions.device)
        along = t.view(-1, 1, 1)
        noise = torch.randn_like(actions)
        noisy = torch.lerp(noise, actions, along)
        predicted = velocity(noisy, t * LEVELS)
        loss = masked_mean((predicted - (actions - noise)).square(), mask)
        return loss, noisy + (1 - along) * predicted

    def sample(self, velocity: Denoiser, noise: torch.Tensor) -> torch.Tensor:
        """Chunks (B, L, A) within [-1, 1] from normal numbers (B, 1, L, A)."""
        return self.walk(velocity, noise[:, 0], self.num_inference_steps)

    @staticmethod
    def walk(velocity: Denoiser, x: torch.Tensor, steps: int) -> torch.Tensor:
        """Return the end (B, L, A) of so many Euler steps from noise x (B, L, A), within [-1, 1]."""
        for i in range(steps):
            t = torch.full((len(x),), i / steps * LEVELS, device=x.device)
            x = x + velocity(x, t) / steps
        return x.clamp(-1.0, 1.0)
