"""Denoising diffusion of chunks of actions, whatever network does the denoising.

Training: a chunk x0 (B, L, A) in [-1, 1] is mixed with noise, x_t = sqrt(a_t) x0 + sqrt(1 - a_t) e, and the
network learns x0 from x_t and t: its optimum, the mean of x0 given x_t, is that of learning e, and it
also exists at pure noise (Salimans and Ho, "Progressive Distillation", ICLR 2022, section 4). Sampling walks
from pure noise down a part of the levels, each step by the coefficients of the level that it *goes to*.

    ddpm    every level, with the noise of the posterior (Ho et al., "Denoising Diffusion Probabilistic
            Models", NeurIPS 2020)
    ddim    `num_inference_steps` of them, without noise (Song et al., "Denoising Diffusion Implicit Models",
            ICLR 2021); the two are one formula with eta = 1 and 0

Trap: a linear schedule from 1e-4 to 0.02 in 100 steps leaves a_T = 0.36: the last level still shows a good
part of the answer, and sampling that starts from pure noise would start where the network never was. So
where the last level of a schedule is not noise alone, one that is gets added.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from simscaleai.errors import UserError, unknown_name
from simscaleai.models.policy_heads.chunks import masked_mean
from simscaleai.models.policy_heads.process import Denoiser

SCHEDULES = ("linear", "cosine")
SAMPLERS = ("ddim", "ddpm")
MAX_LEVELS = 100_000
PURE_NOISE = 1e-3  # largest a_T of a level that counts as noise alone


class GaussianDiffusion(nn.Module):
    """Noise levels and the two ways down; it has no parameters.

    Args:
      num_diffusion_steps: levels of the schedule.
      num_inference_steps: levels that ddim visits.
      beta_start, beta_end: of the linear schedule, the first and the last one literally.
      schedule: "linear", or "cosine" (squared cosine: Nichol and Dhariwal, "Improved DDPM", ICML 2021).
      sampler: "ddim" or "ddpm".

    Attributes:
      alpha_bars: (T,) fraction a_t of the variance that is signal at each level; falls to about 0.
      draws: how many chunks of normal numbers one sample takes.
    """

    alpha_bars: torch.Tensor

    def __init__(
        self,
        num_diffusion_steps: int = 100,
        num_inference_steps: int = 10,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        schedule: str = "linear",
        sampler: str = "ddim",
    ) -> None:
        super().__init__()
        for kind, name, known in (
            ("schedule", schedule, SCHEDULES),
            ("sampler", sampler, SAMPLERS),
        ):
            if name not in known:
                raise unknown_name(kind, name, known)
        if not 1 <= num_diffusion_steps <= MAX_LEVELS:
            raise UserError(
                f"num_diffusion_steps is {num_diffusion_steps}; it is 1 to {MAX_LEVELS}."
            )
        if not 1 <= num_inference_steps <= num_diffusion_steps:
            raise UserError(
                f"num_inference_steps is {num_inference_steps}; 1 to num_diffusion_steps"
                f" ({num_diffusion_steps}) can be visited."
            )
        if schedule == "linear":
            betas = np.linspace(beta_start, beta_end, num_diffusion_steps)
        else:
            betas = _cosine_betas(num_diffusion_steps)
        bars = np.cumprod(1 - betas)
        if bars[-1] > PURE_NOISE:
            bars = np.append(bars, 0.0)
        # Not saved: they follow from the arguments.
        self.register_buffer("alpha_bars", torch.from_numpy(bars).float(), persistent=False)
        self.eta = 1.0 if sampler == "ddpm" else 0.0
        count = len(bars) if sampler == "ddpm" else num_inference_steps
        # The first of them is the level of pure noise, and the others lie evenly below it.
        stride = len(bars) / count
        self.levels = [round(len(bars) - i * stride) - 1 for i in range(count)]
        self.draws = count if sampler == "ddpm" else 1

    def loss(
        self, denoise: Denoiser, actions: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean squared error of x0 at random levels, and the predictions of it (B, L, A)."""
        level = torch.randint(len(self.alpha_bars), (len(actions),), device=actions.device)
        noisy = self.noisy(actions, level, torch.randn_like(actions))
        predicted = denoise(noisy, level)
        return masked_mean((predicted - actions).square(), mask), predicted

    def noisy(
        self, actions: torch.Tensor, level: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        """x_t (B, L, A) at the levels (B,)."""
        bar = self.alpha_bars[level].view(-1, 1, 1)
        return bar.sqrt() * actions + (1 - bar).sqrt() * noise

    def sample(self, denoise: Denoiser, noise: torch.Tensor) -> torch.Tensor:
        """Chunks (B, L, A) within [-1, 1] from normal numbers (B, draws, L, A)."""
        x = noise[:, 0]
        for i, level in enumerate(self.levels):
            x0 = denoise(x, torch.full((len(x),), level, device=x.device)).clamp(-1.0, 1.0)
            below = self.levels[i + 1] if i + 1 < len(self.levels) else None
            fresh = noise[:, i + 1] if below is not None and self.draws > 1 else None
            x = self.step(x, x0, level, below, fresh)
        return x

    def step(
        self,
        x: torch.Tensor,
        x0: torch.Tensor,
        level: int,
        below: int | None,
        noise: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """From x at `level` to the level `below` (None: no noise at all), where x0 is believed.

        Equations 12 and 16 of the DDIM paper: sigma^2 = eta^2 (1 - b) / (1 - a) (1 - a / b), with a and b the
        shares of signal at the two levels.
        """
        if below is None:
            return x0
        a, b = self.alpha_bars[level], self.alpha_bars[below]
        variance = self.eta**2 * (1 - b) / (1 - a) * (1 - a / b)
        direction = (x - a.sqrt() * x0) / (1 - a).sqrt()
        x = b.sqrt() * x0 + (1 - b - variance).clamp(min=0).sqrt() * direction
        return x if noise is None else x + variance.sqrt() * noise


def _cosine_betas(steps: int) -> NDArray[np.float64]:
    bars = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - bars[1:] / bars[:-1], 0.999)
