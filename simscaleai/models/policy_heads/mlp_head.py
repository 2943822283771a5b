"""The plainest action head: a MLP."""

from __future__ import annotations

import torch
from torch import nn


class MLPActionHead(nn.Module):
    """`n_layers` hidden layers (linear, layer norm, SiLU, dropout) and a linear layer to the action.

    Args:
      input_dim: width of the features.
      action_dim: width of the action.
      hidden_dim: width of every hidden layer.
      n_layers: number of hidden layers; 0 is a linear map.
      dropout: probability of dropping a hidden unit while training.
      tanh_output: bound the action to (-1, 1).
      action_horizon: consecutive actions that are predicted at once.
    """

    def __init__(
        self,
        input_dim: int = 256,
        action_dim: int = 4,
        hidden_dim: int = 256,
        n_layers: int = 2,
        dropout: float = 0.1,
        tanh_output: bool = True,
        action_horizon: int = 1,
    ) -> None:
        super().__init__()
        self.action_horizon = action_horizon
        layers: list[nn.Module] = []
        width = input_dim
        for _ in range(n_layers):
            layers += [nn.Linear(width, hidden_dim), nn.LayerNorm(hidden_dim), nn.SiLU()]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            width = hidden_dim
        layers.append(nn.Linear(width, action_dim * action_horizon))
        if tanh_output:
            layers.append(nn.Tanh())
        self.net = nn.Sequential(*layers)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, input_dim) -> (B, action_dim), or (B, L, action_dim) for an action_horizon L > 1."""
        actions = self.net(features)
        return (
            actions if self.action_horizon == 1 else actions.unflatten(1, (self.action_horizon, -1))
        )
