"""Images as features.

Images come as (B, C, H, W) in [0, 1]. What changes them at random does so in training mode alone, by the
global RNG state, as dropout does: a policy that acts sees every image as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from simscaleai.models.backbones import convolutions, make_backbone
from simscaleai.models.film import FiLM

__all__ = ["Augmentation", "ImageEncoder", "ImageSettings", "convolutions", "image_keys"]


@dataclass(frozen=True)
class ImageSettings:
    """The images that a model reads, and how they are encoded.

    Attributes:
      keys: observation entries.
      channels, size: of an image, (channels, size, size).
      embed_dim: width of the features of an image.
      random_shift, color_jitter: see `Augmentation`.
      backbone, backbone_width: see `backbones.make_backbone`.
      encoder_per_camera: whether each camera has an encoder of its own, or all have the same one.
      auxiliary, auxiliary_weight: names and weight of `auxiliary.AuxiliaryPositions`; no names for none.
    """

    keys: tuple[str, ...] = ()
    channels: int = 3
    size: int = 128
    embed_dim: int = 128
    random_shift: int = 0
    color_jitter: float = 0.0
    backbone: str = "conv"
    backbone_width: int = 32
    encoder_per_camera: bool = True
    auxiliary: tuple[str, ...] = ()
    auxiliary_weight: float = 1.0

    def make_encoder(self, cond_dim: int = 0) -> ImageEncoder:
        """Return an encoder of such images with random weights; `cond_dim` as of `ImageEncoder`."""
        return ImageEncoder(
            self.channels,
            self.size,
            self.embed_dim,
            width=self.backbone_width,
            backbone=self.backbone,
            cond_dim=cond_dim,
        )


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
            # Before the colors, which depend on the mean of what is left of the image.
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
        """Return x and y of every channel in [-1, 1]: (B, K, h, w) -> (B, 2 K)."""
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
    """A backbone, points by spatial softmax, and a linear layer.

    Args:
      channels, size: of the images, (channels, size, size).
      embed_dim: width of the features.
      width, backbone: see `make_backbone`.
      points: number of positions that are found.
      cond_dim: width of a condition that scales and shifts the maps (`FiLM`); 0 for none.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        embed_dim: int,
        width: int = 32,
        points: int = 32,
        backbone: str = "conv",
        cond_dim: int = 0,
    ) -> None:
        super().__init__()
        self.maps, channels = make_backbone(backbone, channels, size, width)
        self.film = FiLM(cond_dim, channels) if cond_dim else None
        self.points = Points(channels, points, embed_dim)

    def forward(self, images: torch.Tensor, cond: torch.Tensor | None = None) -> torch.Tensor:
        """Images (B, C, H, W) in [0, 1], and `cond` (B, cond_dim) if there is FiLM -> (B, embed_dim)."""
        maps = self.maps(images.mul(2).sub_(1))  # (B, channels, h, w)
        if self.film is not None:
            assert cond is not None
            maps = self.film(maps, cond)
        return self.points(maps)


def image_keys(use_image: bool, cameras: Sequence[str] | None) -> tuple[str, ...]:
    """Observation entries of the cameras named, "image" for none: the first camera's image."""
    if cameras:
        return tuple(c if c == "image" else f"images/{c}" for c in cameras)
    return ("image",) if use_image else ()
