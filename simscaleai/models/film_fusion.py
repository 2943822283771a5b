"""Images, a state and an instruction as features, fused by FiLM: small, fast, and it listens.

    instruction ───────────────┬────────────────────────────┬──────────┐
    images ─► backbone ─► maps ─► FiLM ─► points ─┐          ▼          ▼
    state ────────────────────────────────────────┴─► linear ─► FiLM ─► ... ─► features
              positions predicted from both ──────┘  (with `auxiliary`)

The instruction scales and shifts the maps of every camera, so that the points found are those of what was
named, and the hidden layers after them. There are no tokens of patches and no layers over them: on 64 pixels
and some hundred demonstrations those took ten times as long and learned to ignore the words.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from simscaleai.models.film import FiLMMLP
from simscaleai.models.observation_encoder import Encoded, ObservationEncoder
from simscaleai.models.vision import ImageSettings


class FiLMFusion(nn.Module):
    """See the module docstring.

    Args:
      state_dim: width of observations["state"]; 0 leaves it out.
      images: the images.
      cond_dim: width of an instruction's features; 0 for a model without language.
      hidden_dim, n_layers, dropout: of the layers after the points, see `FiLMMLP`.

    Attributes:
      encoder: of state and images.
    """

    def __init__(
        self,
        state_dim: int,
        images: ImageSettings,
        cond_dim: int,
        hidden_dim: int,
        n_layers: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        # Maps get the instruction before points are taken from them: later a point may be of any object.
        self.encoder = ObservationEncoder(state_dim, images, cond_dim=cond_dim)
        self.layers = FiLMMLP(self.encoder.width, hidden_dim, n_layers, cond_dim, dropout)

    def forward(self, obs: Mapping[str, torch.Tensor], cond: torch.Tensor | None) -> Encoded:
        """Encode {key: (B, ...)} under instructions `cond` (B, cond_dim): features (B, hidden_dim)."""
        encoded = self.encoder(obs, cond)  # features (B, encoder.width)
        # Positions are of all objects, whatever is asked for; which of them counts is left to these layers.
        return Encoded([self.layers(encoded.features, cond)], encoded.offsets)
