"""MLP on the state: the actor of reinforcement learning, which behavior cloning can train too."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from simscaleai.models.inference import inference
from simscaleai.models.registry import register_model
from simscaleai.tensor_types import Batch, Tensors


@register_model("mlp")
class MLPPolicy(nn.Module):
    """Tanh layers, and a linear layer to the action.

    Args:
      state_dim: width of observations["state"].
      action_dim: width of an action.
      hidden_dim, n_layers: width and number of tanh layers.
    """

    obs_keys = ("state",)

    def __init__(
        self, state_dim: int = 20, action_dim: int = 4, hidden_dim: int = 256, n_layers: int = 2
    ) -> None:
        super().__init__()
        self.features, width = mlp(state_dim, hidden_dim, n_layers)
        self.output = nn.Linear(width, action_dim)

    def forward(self, batch: Batch) -> Tensors:
        """Return the mean squared error of the predicted actions.

        Args:
          batch: "observations" {"state": (B, state_dim)} and "actions" (B, A), or (B, L, A) windows whose
            first action belongs to the observation.

        Returns:
          "predicted_actions" (B, A) and the scalar "loss".
        """
        actions = batch["actions"]
        if actions.ndim == 3:  # a window of L actions, of which this model learns the first
            actions = actions[:, 0]  # (B, A)
        predicted = self.output(self.features(batch["observations"]["state"]))  # (B, A)
        return {"predicted_actions": predicted, "loss": F.mse_loss(predicted, actions)}

    def predict(self, obs: Tensors) -> torch.Tensor:
        """Return actions (B, A) within [-1, 1]; no gradient."""
        with inference(self):
            # The output layer is linear, and may leave the range of actions.
            return self.output(self.features(obs["state"])).clamp(-1.0, 1.0)


def mlp(input_dim: int, hidden_dim: int, n_layers: int) -> tuple[nn.Sequential, int]:
    """Return a tanh MLP without an output layer, and the width of its features.

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
    """Initialize a layer with orthogonal weights and zero bias, in place; return it."""
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
