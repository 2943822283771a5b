"""A Gaussian policy on the state: what reinforcement learning trains, and what can be cloned too."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal

from simscaleai.models.inference import inference
from simscaleai.models.registry import register_model


@register_model("gaussian")
class GaussianPolicy(nn.Module):
    """Actions are normal around a perceptron's output, with one spread for every state.

    Args:
      state_dim: width of observations["state"].
      action_dim: width of an action.
      hidden_dim, n_layers: width and number of tanh layers.
      log_std_init: logarithm of the spread at the start.
    """

    obs_keys = ("state",)

    def __init__(
        self,
        state_dim: int = 20,
        action_dim: int = 4,
        hidden_dim: int = 256,
        n_layers: int = 2,
        log_std_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.features, width = mlp(state_dim, hidden_dim, n_layers)
        self.mean = nn.Linear(width, action_dim)
        self.log_std = nn.Parameter(torch.full((action_dim,), float(log_std_init)))

    def distribution(self, features: torch.Tensor) -> Normal:
        """Of actions (..., A), for the features (..., hidden_dim) of states."""
        return Normal(self.mean(features), self.log_std.exp(), validate_args=False)

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Clone: the loss is the mean negative log-likelihood of an action's entry.

        Args:
          batch: "observations" {"state": (B, state_dim)} and "actions" (B, A), or (B, L, A) windows whose
            first action belongs to the observation.

        Returns:
          "predicted_actions" (B, A); scalars "loss", and "action_mse" (no gradient).
        """
        actions = batch["actions"]
        if actions.ndim == 3:
            actions = actions[:, 0]
        distribution = self.distribution(self.features(batch["observations"]["state"]))
        predicted = distribution.mean
        return {
            "predicted_actions": predicted,
            "loss": -distribution.log_prob(actions).mean(),
            "action_mse": F.mse_loss(predicted.detach(), actions),
        }

    def predict(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The most likely actions (B, A), within [-1, 1]; no gradient."""
        with inference(self):
            return self.mean(self.features(obs["state"])).clamp(-1.0, 1.0)


def mlp(input_dim: int, hidden_dim: int, n_layers: int) -> tuple[nn.Sequential, int]:
    """A tanh perceptron without an output layer, and the width of what it gives.

    Weights are orthogonal with gain sqrt(2), as in Engstrom et al., "Implementation Matters in Deep Policy
    Gradients", ICLR 2020.
    """
    layers: list[nn.Module] = []
    width = input_dim
    for _ in range(n_layers):
        layer = nn.Linear(width, hidden_dim)
        layers += [orthogonal(layer, math.sqrt(2)), nn.Tanh()]
        width = hidden_dim
    return nn.Sequential(*layers), width


def orthogonal(layer: nn.Linear, gain: float) -> nn.Linear:
    """The layer with orthogonal weights and no bias."""
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
