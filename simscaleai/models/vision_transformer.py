"""A vision transformer, whose patches may follow convolutions and an instruction."""

from __future__ import annotations

import torch
from torch import nn

from simscaleai.errors import UserError, unknown_name
from simscaleai.models.backbones import convolutions
from simscaleai.models.film import FiLM
from simscaleai.models.transformer import Encoder, embedding
from simscaleai.models.vision import Points

STEMS = ("patch", "conv")


class PatchEmbedding(nn.Module):
    """Patches of an image as tokens (Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021).

    Args:
      image_size, patch_size: pixels a side; the first is a multiple of the second.
      in_channels: of the image.
      embed_dim: width of a token.
      stem: "patch", a linear map of each patch, or "conv", convolutions before it, with which small
        data go further (Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021).

    Attributes:
      maps: images (B, C, H, W) -> (B, channels, H / stride, W / stride), of which `projection` makes tokens.
    """

    def __init__(
        self,
        image_size: int = 128,
        patch_size: int = 16,
        in_channels: int = 3,
        embed_dim: int = 256,
        stem: str = "patch",
    ) -> None:
        super().__init__()
        if stem not in STEMS:
            raise unknown_name("stem", stem, STEMS)
        if image_size % patch_size or (stem == "conv" and patch_size % 4):
            raise UserError(
                f"image_size is {image_size} and patch_size {patch_size}; the one must be a multiple of the"
                " other, and patch_size one of 4 with stem 'conv'."
            )
        self.num_patches = (image_size // patch_size) ** 2
        self.maps, self.channels, stride = nn.Sequential(), in_channels, 1
        if stem == "conv":
            self.maps, self.channels = convolutions(in_channels, (2, 2, 1))
            stride = 4
        # What is left of a patch after the strides of the stem.
        rest = patch_size // stride
        self.projection = nn.Conv2d(self.channels, embed_dim, rest, rest)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, num_patches, embed_dim)."""
        return self.tokens(self.maps(x))

    def tokens(self, maps: torch.Tensor) -> torch.Tensor:
        """Those of `maps`, (B, num_patches, embed_dim)."""
        # (B, D, h, w) -> (B, D, P) -> (B, P, D)
        return self.projection(maps).flatten(2).transpose(1, 2)


class VisionEncoder(nn.Module):
    """A vision transformer: a token for the whole image, and one for each patch.

    With stem "conv" the token for the whole image starts as positions: where each of `points` features is
    strongest. And an instruction decides how strong each feature counts (FiLM: Perez et al., AAAI 2018;
    in a robot's policy: Brohan et al., RT-1, 2022), so that what is found is what was named.

    Args:
      image_size, patch_size, in_channels, embed_dim, stem: see `PatchEmbedding`.
      num_heads, num_layers, mlp_ratio, dropout: of the transformer.
      points: positions that are found, with stem "conv".
      instructed: with stem "conv", whether `forward` is given instructions.
    """

    def __init__(
        self,
        image_size: int = 128,
        patch_size: int = 16,
        in_channels: int = 3,
        embed_dim: int = 256,
        num_heads: int = 4,
        num_layers: int = 4,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
        stem: str = "patch",
        points: int = 32,
        instructed: bool = False,
    ) -> None:
        super().__init__()
        self.patches = PatchEmbedding(image_size, patch_size, in_channels, embed_dim, stem)
        self.whole = embedding(1, 1, embed_dim)
        channels = self.patches.channels
        self.points = Points(channels, points, embed_dim) if stem == "conv" else None
        self.film = FiLM(embed_dim, channels) if stem == "conv" and instructed else None
        self.position = embedding(self.patches.num_patches + 1, embed_dim)
        self.layers = Encoder(num_layers, embed_dim, num_heads, mlp_ratio, dropout)

    def forward(
        self, images: torch.Tensor, instruction: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, C, H, W) in [0, 1] and features (B, embed_dim) -> (B, num_patches + 1, embed_dim)."""
        maps = self.patches.maps(
            images * 2 - 1
        )  # (B, channels, H / stride, W / stride), of [-1, 1]
        if self.film is not None and instruction is not None:
            # Before the tokens and points are made, so that they are of what the instruction names.
            maps = self.film(maps, instruction)
        patches = self.patches.tokens(maps)  # (B, P, D)
        # First token: the whole image, at the positions of its features if there are any.
        whole = self.whole.expand(len(images), -1, -1).to(patches.dtype)
        if self.points is not None:
            whole = whole + self.points(maps).unsqueeze(1)
        return self.layers(torch.cat([whole, patches], dim=1) + self.position)  # (B, P + 1, D)
