"""Behavior cloning: regress the demonstrated actions from the observation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from simscaleai.errors import unknown_name
from simscaleai.models.inference import inference
from simscaleai.models.observation_encoder import ObservationEncoder
from simscaleai.models.policy_heads.by_name import make_head
from simscaleai.models.policy_heads.chunks import head_actions, head_outputs, masked_mean
from simscaleai.models.registry import register_model
from simscaleai.models.vision import ImageSettings, image_keys
from simscaleai.tensor_types import Batch

LOSSES = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.smooth_l1_loss}


@register_model("bc")
class BehaviorCloning(nn.Module):
    """An action head on the state and, where `use_image` or `cameras` asks for them, on images.

    Args:
      state_dim: width of observations["state"]; 0 for a model of images alone.
      action_dim: width of an action.
      hidden_dim, n_layers: width and number of hidden layers.
      use_image: also read observations["image"], (B, image_channels, image_size, image_size).
      image_embed_dim: width of an image's features.
      dropout: probability of dropping a hidden unit while training, of head_type "mlp".
      loss_type: "mse", "l1" or "huber", of head_type "mlp".
      action_horizon: consecutive actions that are predicted at once.
      n_action_steps: how many of them are executed before the next prediction.
      head_type: "mlp" regresses; "diffusion", "flow" and "one_step_flow" sample.
      cameras: read observations["images/<camera>"] of these instead of "image".
      random_shift, color_jitter: augmentation of images, see `vision.Augmentation`.
      backbone, backbone_width, encoder_per_camera: of the image encoders, see `vision.ImageSettings`.
      auxiliary, auxiliary_weight: positions to predict while training, see `auxiliary.AuxiliaryPositions`.
    """

    presets = {"debug": {"hidden_dim": 64, "n_layers": 2}}

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
        action_horizon: int = 1,
        n_action_steps: int = 1,
        head_type: str = "mlp",
        cameras: list[str] | None = None,
        random_shift: int = 0,
        color_jitter: float = 0.0,
        backbone: str = "conv",
        backbone_width: int = 32,
        encoder_per_camera: bool = True,
        auxiliary: list[str] | None = None,
        auxiliary_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if loss_type not in LOSSES:
            raise unknown_name("loss_type", loss_type, LOSSES)
        self.loss_type = loss_type
        self.action_horizon, self.n_action_steps = action_horizon, n_action_steps
        self.encoder = ObservationEncoder(
            state_dim,
            ImageSettings(
                image_keys(use_image, cameras),
                image_channels,
                image_size,
                image_embed_dim,
                random_shift,
                color_jitter,
                backbone,
                backbone_width,
                encoder_per_camera,
                tuple(auxiliary or ()),
                auxiliary_weight,
            ),
        )
        self.obs_keys, self.image_shape = self.encoder.keys, self.encoder.image_shape
        self.privileged_keys = self.encoder.privileged_keys
        self.head = make_head(
            head_type, self.encoder.width, action_dim, hidden_dim, n_layers, dropout, action_horizon
        )
        # Samples lie within [-1, 1], and so must the actions that they are learned from.
        if head_type != "mlp":
            self.noise_shape = self.head.noise_shape
            self.normalization = {"actions": "min_max"}

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return loss and predictions for a batch.

        Args:
          batch: "observations" {"state": (B, state_dim), "image": (B, C, H, W)} and "actions" (B, A),
            or (B, L, A) windows whose first action belongs to the observation, with "mask" (B, L).

        Returns:
          "predicted_actions" (B, A), or (B, L, A) for an action_horizon L > 1; scalars "loss", and
          "action_mse" and "action_mae" (no gradient), and those of `auxiliary`.
        """
        actions, mask = batch["actions"], batch.get("mask")
        # A loader for several models may give windows (B, L, A) to one that predicts a single action.
        if self.action_horizon == 1:
            actions, mask = actions[:, 0] if actions.ndim == 3 else actions, None
        encoded = self.encoder(batch["observations"])
        outputs = head_outputs(self.head, encoded.features, actions, mask, LOSSES[self.loss_type])
        # In the units of the actions, whatever the loss is: comparable between runs.
        with torch.no_grad():
            error = outputs["predicted_actions"] - actions
            outputs["action_mse"] = masked_mean(error.square(), mask)
            outputs["action_mae"] = masked_mean(error.abs(), mask)
        return self.encoder.with_auxiliary_loss(outputs, encoded, batch)

    def predict(
        self, obs: dict[str, torch.Tensor], noise: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return actions (B, A) or (B, L, A) in [-1, 1] for observations as in `forward`, without gradients.

        Heads that sample start from `noise` (B, *noise_shape), or from the same numbers at every call.
        """
        with inference(self):
            return head_actions(self.head, self.encoder(obs).features, noise)
