"""ACT: predict the next actions at once with a transformer and a latent style.

Zhao, Kumar, Levine and Finn, "Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware", RSS 2023.
A conditional variational autoencoder: while training, an encoder sees the demonstrated chunk and says in a
latent z what the observation alone does not; acting takes z = 0, the mean of its prior.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from simscaleai.models.inference import inference
from simscaleai.models.observation_encoder import Encoded, ObservationEncoder
from simscaleai.models.policy_heads.chunks import masked_mean
from simscaleai.models.registry import register_model
from simscaleai.models.transformer import Block, Encoder, embedding
from simscaleai.models.vision import ImageSettings, image_keys
from simscaleai.tensor_types import Batch


@register_model("act")
class ActionChunkingTransformer(nn.Module):
    """A transformer that predicts a chunk of actions, trained as a variational autoencoder.

    Args:
      state_dim: width of observations["state"]; 0 for a model of images alone.
      action_dim: width of an action.
      action_horizon: consecutive actions that are predicted at once.
      n_action_steps: how many of them are executed before the next prediction.
      temporal_ensemble: predict at every step and average, with weight m of `action_queue` (0.01 there).
      embed_dim, num_heads, num_encoder_layers, num_decoder_layers, mlp_ratio, dropout: of the transformer.
      latent_dim: width of z; 0 leaves the autoencoder out.
      kl_weight: of the divergence of z from its prior, beside a loss that is the mean absolute error.
      use_image: also read observations["image"].
      cameras: read observations["images/<camera>"] of these instead.
      image_channels, image_size: of images; each becomes one token.
      random_shift, color_jitter: augmentation of images, see `vision.Augmentation`.
      backbone, backbone_width, encoder_per_camera: of the image encoders, see `vision.ImageSettings`.
      auxiliary, auxiliary_weight: positions to predict while training, see `auxiliary.AuxiliaryPositions`.
    """

    normalization = {"actions": "mean_std"}
    presets = {
        "debug": {"embed_dim": 32, "num_heads": 2, "num_encoder_layers": 1},
        "small": {"action_horizon": 16, "n_action_steps": 8},
        "full": {
            "embed_dim": 512,
            "num_heads": 8,
            "num_encoder_layers": 4,
            "num_decoder_layers": 7,
        },
    }

    def __init__(
        self,
        state_dim: int = 20,
        action_dim: int = 4,
        action_horizon: int = 8,
        n_action_steps: int = 4,
        temporal_ensemble: float | None = None,
        embed_dim: int = 128,
        num_heads: int = 4,
        num_encoder_layers: int = 2,
        num_decoder_layers: int = 1,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
        latent_dim: int = 16,
        kl_weight: float = 10.0,
        use_image: bool = False,
        cameras: list[str] | None = None,
        image_channels: int = 3,
        image_size: int = 128,
        random_shift: int = 4,
        color_jitter: float = 0.0,
        backbone: str = "conv",
        backbone_width: int = 32,
        encoder_per_camera: bool = True,
        auxiliary: list[str] | None = None,
        auxiliary_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.action_horizon, self.n_action_steps = action_horizon, n_action_steps
        self.temporal_ensemble = temporal_ensemble
        self.latent_dim, self.kl_weight = latent_dim, kl_weight
        self.encoder = ObservationEncoder(
            state_dim,
            ImageSettings(
                image_keys(use_image, cameras),
                image_channels,
                image_size,
                embed_dim,
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
        layer = {"mlp_ratio": mlp_ratio, "dropout": dropout}
        if state_dim > 0:
            self.state = nn.Linear(state_dim, embed_dim)
        if self.encoder.auxiliary is not None:
            self.positions = nn.Linear(self.encoder.auxiliary.width, embed_dim)
        tokens = len(self.obs_keys) + (self.encoder.auxiliary is not None)
        self.kinds = embedding(tokens, embed_dim)
        if latent_dim:
            self.style = Style(
                state_dim, action_dim, action_horizon, embed_dim, num_heads, latent_dim
            )
            self.latent = nn.Linear(latent_dim, embed_dim)
        self.context = Encoder(num_encoder_layers, embed_dim, num_heads, mlp_ratio, dropout)
        self.queries = embedding(action_horizon, embed_dim)
        self.decoder = nn.ModuleList(
            Block(embed_dim, num_heads, cross=True, **layer) for _ in range(num_decoder_layers)
        )
        self.output = nn.Sequential(nn.LayerNorm(embed_dim), nn.Linear(embed_dim, action_dim))

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return loss and predictions; out of training mode with z = 0, as when acting.

        Args:
          batch: "observations" {key: (B, ...)}, "actions" (B, L, A) and "mask" (B, L).

        Returns:
          "predicted_actions" (B, L, A); scalars "loss", "action_mae" (no gradient), "kl" in
          training, and those of `auxiliary`.
        """
        obs, mask = batch["observations"], batch.get("mask")
        actions = batch["actions"]
        actions = actions if actions.ndim == 3 else actions.unsqueeze(1)
        z, kl = None, None
        if self.latent_dim and self.training:
            mean, log_variance = self.style(obs.get("state"), actions, mask)  # (B, Z) each
            # Reparameterization: z is a sample, and differentiable in mean and variance.
            z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            # KL divergence of N(mean, variance) from N(0, 1), summed over the entries of z.
            kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean()
        encoded = self.encoder(obs)
        predicted = self._decode(encoded, z)
        error = masked_mean(F.l1_loss(predicted, actions, reduction="none"), mask)
        outputs = {"predicted_actions": predicted, "loss": error, "action_mae": error.detach()}
        if kl is not None:
            outputs |= {"loss": error + self.kl_weight * kl, "kl": kl.detach()}
        return self.encoder.with_auxiliary_loss(outputs, encoded, batch)

    def predict(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return chunks (B, L, A) for z = 0, without gradients and dropout."""
        with inference(self):
            return self._decode(self.encoder(obs), None)

    def _decode(self, encoded: Encoded, z: torch.Tensor | None) -> torch.Tensor:
        parts = list(encoded.parts)  # (B, width of each); images have the width of a token already
        if self.encoder.state_dim > 0:
            parts[0] = self.state(parts[0])  # (B, D)
        if encoded.offsets is not None:
            parts[-1] = self.positions(parts[-1])  # (B, D)
        # Attention has no order: what each token is of is added to it.
        tokens = torch.stack(parts, dim=1) + self.kinds  # (B, len(parts), D)
        if self.latent_dim:
            z = tokens.new_zeros(len(tokens), self.latent_dim) if z is None else z
            tokens = torch.cat([self.latent(z).unsqueeze(1), tokens], dim=1)
        context = self.context(tokens)  # (B, tokens, D)
        x = self.queries.expand(len(tokens), -1, -1)  # (B, L, D), one query for each action
        for block in self.decoder:
            x = block(x, context)
        return self.output(x)  # (B, L, A)


class Style(nn.Module):
    """From state and demonstrated chunk to mean and log variance of z, (B, latent_dim) each."""

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        action_horizon: int,
        embed_dim: int,
        num_heads: int,
        latent_dim: int,
    ) -> None:
        super().__init__()
        self.has_state = state_dim > 0
        if self.has_state:
            self.state = nn.Linear(state_dim, embed_dim)
        self.actions = nn.Linear(action_dim, embed_dim)
        self.readout = embedding(1, 1, embed_dim)
        self.position = embedding(action_horizon, embed_dim)
        self.layers = Encoder(1, embed_dim, num_heads, 2.0, 0.0)
        self.output = nn.Linear(embed_dim, 2 * latent_dim)

    def forward(
        self, state: torch.Tensor | None, actions: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # One token whose output is the style, before those that it is read from.
        first = [self.readout.expand(len(actions), -1, -1)]
        if self.has_state and state is not None:
            first.append(self.state(state).unsqueeze(1))
        tokens = torch.cat([*first, self.actions(actions) + self.position], dim=1)
        # Padding says nothing about the style.
        if mask is not None:
            mask = torch.cat([mask.new_ones(len(mask), len(first)), mask], dim=1)
        mean, log_variance = self.output(self.layers(tokens, mask)[:, 0]).chunk(2, dim=-1)
        return mean, log_variance
