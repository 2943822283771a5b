"""Observations of a state and images as features, for every model that needs no tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from simscaleai.errors import UserError
from simscaleai.models.auxiliary import AuxiliaryPositions
from simscaleai.models.vision import Augmentation, ImageSettings
from simscaleai.tensor_types import Batch

NO_IMAGES = ImageSettings()


@dataclass(frozen=True)
class Encoded:
    """Observations as features.

    Attributes:
      parts: the state (B, n_obs_steps * state_dim), the features of each camera (B, n_obs_steps * embed_dim),
        and those of predicted positions (B, auxiliary width); each only if the encoder has it.
      offsets: predicted positions relative to the hand, (B, K, 3), m; None without auxiliary targets.
    """

    parts: list[torch.Tensor]
    offsets: torch.Tensor | None = None

    @property
    def features(self) -> torch.Tensor:
        """All parts side by side, (B, width)."""
        return torch.cat(self.parts, dim=-1)


class ObservationEncoder(nn.Module):
    """A state and the features of images, of one step or several, and positions predicted from them.

    Args:
      state_dim: width of observations["state"]; 0 leaves it out.
      images: the images.
      n_obs_steps: steps; with more than one, entries are (B, n_obs_steps, ...).
      cond_dim: width of a condition that scales and shifts the maps of every image; 0 for none.

    Attributes:
      width: width of all features together.
      image_shape, privileged_keys: what a model that has it declares; see `declarations`.
      auxiliary: predicts positions at the present step; None without auxiliary targets.
    """

    def __init__(
        self,
        state_dim: int,
        images: ImageSettings = NO_IMAGES,
        n_obs_steps: int = 1,
        cond_dim: int = 0,
    ) -> None:
        super().__init__()
        if state_dim <= 0 and not images.keys:
            raise UserError("A model with state_dim=0 sees nothing; set state_dim or use_image.")
        self.state_dim, self.image_keys = state_dim, images.keys
        self.image_shape = (images.channels, None, None) if images.keys else None
        self.augment = Augmentation(images.random_shift, images.color_jitter)
        count = len(images.keys) if images.encoder_per_camera else min(len(images.keys), 1)
        self.images = nn.ModuleList(images.make_encoder(cond_dim) for _ in range(count))
        self.width = n_obs_steps * (max(state_dim, 0) + len(images.keys) * images.embed_dim)
        self.auxiliary = (
            AuxiliaryPositions(self.width, images.auxiliary, images.auxiliary_weight)
            if images.auxiliary
            else None
        )
        self.privileged_keys: tuple[str, ...] = ()
        if self.auxiliary is not None:
            self.privileged_keys = self.auxiliary.privileged_keys
            self.width += self.auxiliary.width

    @property
    def keys(self) -> tuple[str, ...]:
        """What is read: the `obs_keys` of a model."""
        return (("state",) if self.state_dim > 0 else ()) + self.image_keys

    def forward(self, obs: Mapping[str, torch.Tensor], cond: torch.Tensor | None = None) -> Encoded:
        """Encode {key: (B, ...)}, under a condition (B, cond_dim) if there is one; it is of one step."""
        parts = [obs["state"].flatten(1)] if self.state_dim > 0 else []
        for i, key in enumerate(self.image_keys):
            images = obs[key]  # (B, C, H, W), or (B, n_obs_steps, C, H, W)
            encoder = self.images[min(i, len(self.images) - 1)]
            features = encoder(self.augment(images.flatten(0, -4)), cond)
            parts.append(features.view(len(images), -1))
        if self.auxiliary is None:
            return Encoded(parts)
        # The gradient of the actions goes through the predictions too: both losses agree on what they mean.
        offsets = self.auxiliary(torch.cat(parts, dim=-1))  # (B, K, 3)
        return Encoded([*parts, self.auxiliary.features(offsets)], offsets)

    def with_auxiliary_loss(
        self,
        outputs: dict[str, torch.Tensor],
        encoded: Encoded,
        batch: Batch,
    ) -> dict[str, torch.Tensor]:
        """Return outputs of a model with the loss of auxiliary targets, if there are any."""
        if self.auxiliary is None or encoded.offsets is None:
            return outputs
        return self.auxiliary.add_loss(outputs, encoded.offsets, batch)
