"""FiLM: a condition scales and shifts features, channel by channel.

Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018; in a robot's policy:
Brohan et al., "RT-1", 2022.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class FiLM(nn.Linear):
    """Scale and shift features by a linear function of a condition.

    Args:
      cond_dim: width of the condition.
      channels: channels of the features.
    """

    def __init__(self, cond_dim: int, channels: int) -> None:
        super().__init__(cond_dim, 2 * channels)

    def forward(  # type: ignore[override] # of two tensors, unlike the layer that computes the modulation
        self, features: torch.Tensor, cond: torch.Tensor
    ) -> torch.Tensor:
        """Features (B, channels, ...) and `cond` (B, cond_dim) -> (B, channels, ...)."""
        modulation = super().forward(cond)  # (B, 2 channels)
        # One scale and one shift for all places of a map: (B, 2 channels, 1, ..., 1).
        modulation = modulation.view(*modulation.shape, *[1] * (features.ndim - 2))
        scale, shift = modulation.chunk(2, dim=1)
        # Around 1, so that a small condition changes little.
        return features * (1 + scale) + shift


class FiLMMLP(nn.Module):
    """Hidden layers that a condition scales and shifts: linear, FiLM, SiLU and dropout, each.

    Without it an instruction chooses where to look and no more. Here it also chooses what to do with what was
    found, at every depth.

    Args:
      input_dim: width of the features.
      hidden_dim, n_layers: width and number of layers.
      cond_dim: width of the condition; 0 for none, and then this is an ordinary MLP.
      dropout: probability of dropping a hidden unit while training.
    """

    def __init__(
        self, input_dim: int, hidden_dim: int, n_layers: int, cond_dim: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        widths = [input_dim] + [hidden_dim] * (n_layers - 1)
        self.layers = nn.ModuleList(nn.Linear(width, hidden_dim) for width in widths)
        self.films = nn.ModuleList(FiLM(cond_dim, hidden_dim) for _ in widths if cond_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: torch.Tensor, cond: torch.Tensor | None) -> torch.Tensor:
        """Features (B, input_dim) and `cond` (B, cond_dim) -> (B, hidden_dim)."""
        for i, layer in enumerate(self.layers):
            features = layer(features)  # (B, hidden_dim)
            if self.films:
                assert cond is not None
                features = self.films[i](features, cond)
            features = self.dropout(F.silu(features))
        return features
