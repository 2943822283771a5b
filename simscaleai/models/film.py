"""FiLM: a condition scales and shifts features, channel by channel.

Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018; in a robot's policy:
Brohan et al., "RT-1", 2022.
"""

from __future__ import annotations

import torch
from torch import nn


class FiLM(nn.Module):
    """Scale and shift features by a linear function of a condition.

    Args:
      cond_dim: width of the condition.
      channels: channels of the features.
    """

    def __init__(self, cond_dim: int, channels: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(cond_dim, 2 * channels)

    def forward(self, features: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        """Features (B, channels, ...) and `cond` (B, cond_dim) -> (B, channels, ...)."""
        modulation = self.modulation(cond)  # (B, 2 channels)
        # One scale and one shift for all places of a map: (B, 2 channels, 1, ..., 1).
        modulation = modulation.view(*modulation.shape, *[1] * (features.ndim - 2))
        scale, shift = modulation.chunk(2, dim=1)
        # Around 1, so that a small condition changes little.
        return features * (1 + scale) + shift
