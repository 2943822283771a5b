"""Images as features, and observations of states and images as one vector.

Images come as (B, C, H, W) in [0, 1]. What changes them at random does so in training mode alone, by the
global RNG state, as dropout does: a policy that acts sees every image as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from simscaleai.errors import UserError

MAP_SIZE = 16  # pixels a side of the map that points are found in
GROUPS = 8


@dataclass(frozen=True)
class ImageSettings:
    """The images that a model reads, and how they are encoded.

    Attributes:
      keys: observation entries; each has an encoder of its own.
      channels, size: of an image, (channels, size, size).
      embed_dim: width of the features of an image.
      random_shift, color_jitter: see `Augmentation`.
    """

    keys: tuple[str, ...] = ()
    channels: int = 3
    size: int = 128
    embed_dim: int = 128
    random_shift: int = 0
    color_jitter: float = 0.0


class Augmentation(nn.Module):
    """Random shifts and colors.

    Shifts as in Kostrikov, Yarats and Fergus, "Image Augmentation Is All You Need", ICLR 2021.

    Args:
      random_shift: pixels that an image moves by at most, its edge repeated; 0 for none.
      color_jitter: how far brightness, contrast and saturation are multiplied from 1, each; 0 for none.
    """

    def __init__(self, random_shift: int = 0, color_jitter: float = 0.0) -> None:
        super().__init__()
        self.random_shift, self.color_jitter = random_shift, color_jitter

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape, in [0, 1] if it was; each image by its own numbers."""
        if not self.training:
            return images
        if self.random_shift:
            images = self._shifted(images)
        if self.color_jitter:
            images = self._recolored(images)
        return images

    def _shifted(self, images: torch.Tensor) -> torch.Tensor:
        most = self.random_shift
        n, _, height, width = images.shape
        # Cut a window of the old size out of each padded image, at its own random corner.
        padded = F.pad(images, (most, most, most, most), mode="replicate")
        start = torch.randint(2 * most + 1, (2, n, 1), device=images.device)
        rows = start[0] + torch.arange(height, device=images.device)
        columns = start[1] + torch.arange(width, device=images.device)
        which = torch.arange(n, device=images.device).view(n, 1, 1)
        # Indexing puts the channels last: (B, H, W, C) -> (B, C, H, W).
        return padded[which, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)

    def _recolored(self, images: torch.Tensor) -> torch.Tensor:
        factors = 1 + self.color_jitter * (2 * torch.rand(3, len(images), 1, 1, 1) - 1)
        brightness, contrast, saturation = factors.to(images)
        images = images * brightness
        images = torch.lerp(images.mean((1, 2, 3), keepdim=True), images, contrast)
        return torch.lerp(images.mean(1, keepdim=True), images, saturation).clamp(0.0, 1.0)


class SpatialSoftmax(nn.Module):
    """Where each channel of a map is strongest, as a mean position (Levine et al., JMLR 2016)."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, K, h, w) -> (B, 2 K): x and y of every channel, in [-1, 1]."""
        height, width = maps.shape[-2:]
        # A probability for each pixel, of which the mean position is the expectation.
        p = maps.flatten(2).softmax(-1).unflatten(-1, (height, width))  # (B, K, h, w)
        x = torch.linspace(-1, 1, width, device=maps.device, dtype=maps.dtype)
        y = torch.linspace(-1, 1, height, device=maps.device, dtype=maps.dtype)
        return torch.cat([(p.sum(-2) * x).sum(-1), (p.sum(-1) * y).sum(-1)], dim=-1)


class Points(nn.Sequential):
    """Maps (B, channels, h, w) to features (B, embed_dim) of `points` positions found in them."""

    def __init__(self, channels: int, points: int, embed_dim: int) -> None:
        super().__init__(
            nn.Conv2d(channels, points, 1), SpatialSoftmax(), nn.Linear(2 * points, embed_dim)
        )


class ImageEncoder(nn.Module):
    """Convolutions with group norm, points by spatial softmax, and a linear layer.

    Args:
      channels, size: of the images, (channels, size, size).
      embed_dim: width of the features.
      width: channels of the first layer; twice as many after it.
      points: how many positions are found.
    """

    def __init__(
        self, channels: int, size: int, embed_dim: int, width: int = 32, points: int = 32
    ) -> None:
        super().__init__()
        if size < 8:
            raise UserError(f"image_size is {size}; images need at least 8 pixels a side.")
        strides = []
        while size > MAP_SIZE:
            strides.append(2)
            size = (size + 1) // 2
        maps, channels = convolutions(channels, (*strides, 1), width)
        self.net = nn.Sequential(*maps, Points(channels, points, embed_dim))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) in [0, 1] -> (B, embed_dim)."""
        return self.net(images * 2 - 1)


class ObservationEncoder(nn.Module):
    """A state and the features of images, of one step or several, side by side.

    Args:
      state_dim: width of observations["state"]; 0 leaves it out.
      images: the images.
      n_obs_steps: steps; with more than one, entries are (B, n_obs_steps, ...).

    Attributes:
      width: of what it gives.
      image_shape: what a model that has it declares of its images; see `declarations`.
    """

    def __init__(
        self,
        state_dim: int,
        images: ImageSettings = ImageSettings(),
        n_obs_steps: int = 1,
    ) -> None:
        super().__init__()
        if state_dim <= 0 and not images.keys:
            raise UserError("A model with state_dim=0 sees nothing; set state_dim or use_image.")
        self.state_dim, self.image_keys = state_dim, images.keys
        self.image_shape = (images.channels, None, None) if images.keys else None
        self.augment = Augmentation(images.random_shift, images.color_jitter)
        self.images = nn.ModuleList(
            ImageEncoder(images.channels, images.size, images.embed_dim) for _ in images.keys
        )
        self.width = n_obs_steps * (max(state_dim, 0) + len(images.keys) * images.embed_dim)

    @property
    def keys(self) -> tuple[str, ...]:
        """What is read: the `obs_keys` of a model."""
        return (("state",) if self.state_dim > 0 else ()) + self.image_keys

    def forward(self, obs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """{key: (B, ...)} -> (B, width)."""
        return torch.cat(self.parts(obs), dim=-1)

    def parts(self, obs: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """The state (B, n_obs_steps * state_dim), and for each key (B, n_obs_steps * image_embed_dim)."""
        parts = [obs["state"].flatten(1)] if self.state_dim > 0 else []
        for key, encoder in zip(self.image_keys, self.images, strict=True):
            images = obs[key]
            features = encoder(self.augment(images.flatten(0, -4)))
            parts.append(features.view(len(images), -1))
        return parts


def convolutions(
    channels: int, strides: Sequence[int], width: int = 32
) -> tuple[nn.Sequential, int]:
    """Layers with group norm, one for each stride, of images of `channels`; and how many channels they give.

    The first layer has `width` channels, those after it twice as many.
    """
    layers: list[nn.Module] = []
    for i, stride in enumerate(strides):
        out = width if i == 0 else 2 * width
        layers += [
            nn.Conv2d(channels, out, 3, stride=stride, padding=1),
            nn.GroupNorm(GROUPS, out),
            nn.SiLU(),
        ]
        channels = out
    return nn.Sequential(*layers), channels


def image_keys(use_image: bool, cameras: Sequence[str] | None) -> tuple[str, ...]:
    """Observation entries of the cameras named, "image" for none: the first camera's image."""
    if cameras:
        return tuple(c if c == "image" else f"images/{c}" for c in cameras)
    return ("image",) if use_image else ()
