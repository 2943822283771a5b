"""Heads that sample actions: an MLP that denoises, by diffusion or along a flow.

Where several actions are equally good, their mean may be none of them. A regression gives the mean; these
heads give one of the actions.

    head = DiffusionActionHead(input_dim=256, action_dim=4)
    head(features, target_actions)["loss"].backward()
    actions = head(features)["predicted_actions"]     # (B, 4) in [-1, 1]
"""

from __future__ import annotations

import math

import torch
from torch import nn

from simscaleai.models.policy_heads.gaussian_diffusion import GaussianDiffusion
from simscaleai.models.policy_heads.process import Process

LEVEL_DIM = 64  # width of a level of noise as a feature


class SinusoidalPosEmbed(nn.Module):
    """Sines and cosines of t at wavelengths from 2 pi to 2 pi 10,000 (Vaswani et al., 2017).

    Args:
      dim: width, an even number of at least 4.
    """

    frequencies: torch.Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        assert dim >= 4 and dim % 2 == 0
        powers = torch.arange(dim // 2, dtype=torch.float32) / (dim // 2 - 1)
        # Not saved: it follows from the argument.
        self.register_buffer(
            "frequencies", torch.exp(-math.log(10_000.0) * powers), persistent=False
        )

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """(B,) of any number type -> (B, dim) float32."""
        angles = t.float().unsqueeze(-1) * self.frequencies  # (B, dim / 2)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class ResidualBlock(nn.Module):
    """Layer norm, two linear layers with SiLU between, and the input added to what they give.

    Args:
      input_dim, hidden_dim, output_dim: widths; a linear layer carries the input over where they differ.
    """

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(input_dim),
            nn.Linear(input_dim, hidden_dim),
            nn.SiLU(),
            nn.Linear(hidden_dim, output_dim),
        )
        same = input_dim == output_dim
        self.skip: nn.Module = nn.Identity() if same else nn.Linear(input_dim, output_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., input_dim) -> (..., output_dim)."""
        return self.skip(x) + self.net(x)


class DenoisingMLP(nn.Module):
    """Residual blocks over features, noise level and a whole noisy chunk: few layers, all of them wide.

    Args:
      features: width of the features.
      action_dim, action_horizon: of a chunk.
      hidden_dim, n_layers: width and number of blocks.
    """

    def __init__(
        self, features: int, action_dim: int, action_horizon: int, hidden_dim: int, n_layers: int
    ) -> None:
        super().__init__()
        self.level = SinusoidalPosEmbed(LEVEL_DIM)
        width = action_dim * action_horizon
        self.input = nn.Linear(features + LEVEL_DIM + width, hidden_dim)
        self.blocks = nn.ModuleList(
            ResidualBlock(hidden_dim, hidden_dim, hidden_dim) for _ in range(n_layers)
        )
        self.output = nn.Sequential(nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, width))

    def denoise(self, x: torch.Tensor, level: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """x (B, L, A), level (B,), features (B or more, F) -> (B, L, A)."""
        # A process may ask about the first chunks of a batch alone.
        inputs = [features[: len(x)], self.level(level), x.flatten(1)]  # (B, ...) each
        hidden = self.input(torch.cat(inputs, dim=-1))
        for block in self.blocks:
            hidden = block(hidden)
        return self.output(hidden).view_as(x)


class SamplingHead(DenoisingMLP):
    """A `DenoisingMLP` with the process that it learns and samples by.

    Args:
      process: what it learns and how it samples.
      input_dim: width of the features.
      action_dim, action_horizon: of a chunk; for a horizon of 1 actions are (B, A).
      hidden_dim, n_layers: width and number of blocks.

    Attributes:
      noise_shape: shape of the normal numbers for one sample.
    """

    def __init__(
        self,
        process: Process,
        input_dim: int,
        action_dim: int,
        hidden_dim: int,
        n_layers: int,
        action_horizon: int,
    ) -> None:
        super().__init__(input_dim, action_dim, action_horizon, hidden_dim, n_layers)
        self.process = process
        self.action_horizon = action_horizon
        self.noise_shape = (process.draws, action_horizon, action_dim)

    def forward(
        self,
        features: torch.Tensor,
        target_actions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return a loss where there are actions to learn, and samples where there are none.

        Args:
          features: (B, input_dim).
          target_actions: (B, A), or (B, L, A) for a horizon L, in [-1, 1].
          mask: (B, L), False where an action is padding.
          noise: (B, *noise_shape) to sample from; by default of the global RNG state.

        Returns:
          "loss", 0 where nothing is learned, and "predicted_actions", shaped as the targets: samples within
          [-1, 1], or in training what one step of denoising gives.
        """

        def denoise(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
            return self.denoise(x, level, features)

        if target_actions is not None:
            chunks = target_actions if target_actions.ndim == 3 else target_actions.unsqueeze(1)
            loss, predicted = self.process.loss(denoise, chunks, mask)
        else:
            if noise is None:
                shape = (len(features), *self.noise_shape)
                noise = torch.randn(shape, device=features.device)
            loss, predicted = features.new_zeros(()), self.process.sample(denoise, noise)
        predicted = predicted[:, 0] if self.action_horizon == 1 else predicted
        return {"loss": loss, "predicted_actions": predicted}


class DiffusionActionHead(SamplingHead):
    """Samples actions by denoising diffusion (Chi et al., "Diffusion Policy", RSS 2023).

    Args:
      input_dim: width of the features.
      action_dim: width of an action.
      hidden_dim, n_layers: width and number of residual blocks.
      num_diffusion_steps, num_inference_steps, beta_start, beta_end, schedule, sampler: see
        `GaussianDiffusion`.
      action_horizon: consecutive actions that are sampled together.
    """

    def __init__(
        self,
        input_dim: int = 256,
        action_dim: int = 4,
        hidden_dim: int = 256,
        n_layers: int = 4,
        num_diffusion_steps: int = 100,
        num_inference_steps: int = 10,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        schedule: str = "linear",
        sampler: str = "ddim",
        action_horizon: int = 1,
    ) -> None:
        process = GaussianDiffusion(
            num_diffusion_steps, num_inference_steps, beta_start, beta_end, schedule, sampler
        )
        super().__init__(process, input_dim, action_dim, hidden_dim, n_layers, action_horizon)
