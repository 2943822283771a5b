"""Behaviour cloning: regress the demonstrated action from the observation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from simscaleai.errors import UserError, unknown_name
from simscaleai.models.inference import inference
from simscaleai.models.policy_heads.mlp_head import MLPActionHead
from simscaleai.models.registry import register_model

LOSSES = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.smooth_l1_loss}


@register_model("bc")
class BehaviorCloning(nn.Module):
    """A perceptron on the state, and on the features of an image where `use_image` asks for it.

    Args:
      state_dim: width of observations["state"]; 0 for a model of images alone.
      action_dim: width of an action.
      hidden_dim, n_layers: width and number of hidden layers.
      use_image: also read observations["image"], (B, image_channels, image_size, image_size).
      image_embed_dim: width of the image's features.
      dropout: share of hidden units dropped while training.
      loss_type: "mse", "l1" or "huber".
    """

    def __init__(
        self,
        state_dim: int = 20,
        action_dim: int = 4,
        hidden_dim: int = 256,
        n_layers: int = 3,
        use_image: bool = False,
        image_channels: int = 3,
        image_size: int = 128,
        image_embed_dim: int = 128,
        dropout: float = 0.1,
        loss_type: str = "mse",
    ) -> None:
        super().__init__()
        if loss_type not in LOSSES:
            raise unknown_name("loss_type", loss_type, LOSSES)
        if state_dim <= 0 and not use_image:
            raise UserError("A model with state_dim=0 sees nothing; set state_dim or use_image.")
        self.loss_type = loss_type
        keys = (("state", state_dim > 0), ("image", use_image))
        self.obs_keys = tuple(key for key, used in keys if used)
        features = state_dim
        if use_image:
            self.image_encoder = _image_encoder(image_channels, image_size, image_embed_dim)
            features += image_embed_dim
        self.head = MLPActionHead(features, action_dim, hidden_dim, n_layers, dropout)

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Loss and predictions for a batch.

        Args:
          batch: "observations" {"state": (B, state_dim), "image": (B, C, H, W)} and "actions" (B, A),
            or (B, L, A) windows whose first action belongs to the observation.

        Returns:
          "predicted_actions" (B, A); scalars "loss", and "action_mse" and "action_mae" (no gradient).
        """
        predicted = self._actions(batch["observations"])
        actions = batch["actions"]
        if actions.ndim == 3:
            actions = actions[:, 0]
        loss = LOSSES[self.loss_type](predicted, actions)
        with torch.no_grad():
            mse = loss if self.loss_type == "mse" else F.mse_loss(predicted, actions)
            mae = loss if self.loss_type == "l1" else F.l1_loss(predicted, actions)
        return {
            "predicted_actions": predicted,
            "loss": loss,
            "action_mse": mse.detach(),
            "action_mae": mae.detach(),
        }

    def predict(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Actions (B, A) in [-1, 1] for observations as in `forward`; no gradient, no dropout."""
        with inference(self):
            return self._actions(obs)

    def _actions(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
        parts = []
        if "state" in self.obs_keys:
            parts.append(obs["state"])
        if "image" in self.obs_keys:
            parts.append(self.image_encoder(obs["image"]))
        return self.head(parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1))


def _image_encoder(channels: int, size: int, embed_dim: int) -> nn.Sequential:
    """(B, channels, size, size) -> (B, embed_dim): halve the picture until it is about 4 x 4."""
    if size < 8:
        raise UserError(f"image_size is {size}; images need at least 8 pixels a side.")
    layers: list[nn.Module] = []
    width = 32
    while size > 4:
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.SiLU()]
        channels, size, width = width, (size + 1) // 2, min(2 * width, 128)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * size * size, embed_dim))
