"""Vision backbones by name: from images to feature maps of about `MAP_SIZE` pixels a side.

    maps, channels = make_backbone("resnet", in_channels=3, size=64, width=16)
    maps(images)      # (B, 3, 64, 64) -> (B, channels, 16, 16)

All of them start from random weights, are small enough for a CPU, and use group norm (Wu and He, "Group
Normalization", ECCV 2018): unlike batch norm it does the same in training and when acting, for one env and
for many.

    conv        3x3 convolutions, one for each halving of the size and one more
    resnet      residual blocks (He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016): each
                place of a map depends on twice as large a part of the image
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from simscaleai.errors import UserError, unknown_name

MAP_SIZE = 16  # pixels a side of a map: fine enough to find a point in, coarse enough to be fast
GROUPS = 8
MIN_SIZE = 8

# (channels of an image, stride of each layer, width) -> (layers, channels of a map)
Backbone = Callable[[int, Sequence[int], int], tuple[nn.Sequential, int]]


def make_backbone(
    name: str, in_channels: int, size: int, width: int = 32
) -> tuple[nn.Sequential, int]:
    """Return a backbone, and the channels of its maps.

    Args:
      name: see the module.
      in_channels, size: images are (B, in_channels, size, size).
      width: channels of the first layer, a multiple of `GROUPS`; later ones have twice as many.

    Raises:
      UserError: no backbone has this name, or a size or width that none can have.
    """
    if name not in BACKBONES:
        raise unknown_name("backbone", name, BACKBONES)
    if size < MIN_SIZE:
        raise UserError(f"image_size is {size}; images need at least {MIN_SIZE} pixels a side.")
    if width < GROUPS or width % GROUPS:
        raise UserError(
            f"backbone_width is {width}; it must be a multiple of {GROUPS}, the groups of the group norm."
        )
    # Halve the size until points can be found in it; (size + 1) // 2 is what a stride of 2 leaves.
    strides = []
    while size > MAP_SIZE:
        strides.append(2)
        size = (size + 1) // 2
    return BACKBONES[name](in_channels, (*strides, 1), width)


def convolutions(
    channels: int, strides: Sequence[int], width: int = 32
) -> tuple[nn.Sequential, int]:
    """Return 3x3 convolutions with group norm, one for each stride, and the channels of their maps.

    The first layer has `width` channels, those after it twice as many.
    """
    layers: list[nn.Module] = []
    for i, stride in enumerate(strides):
        # Narrow where the maps are large: the first layer costs most.
        out = width if i == 0 else 2 * width
        layers += [
            nn.Conv2d(channels, out, 3, stride=stride, padding=1),
            nn.GroupNorm(GROUPS, out),
            nn.SiLU(),
        ]
        channels = out
    return nn.Sequential(*layers), channels


def resnet(channels: int, strides: Sequence[int], width: int = 32) -> tuple[nn.Sequential, int]:
    """Return a convolution and a residual block for each further stride, and the channels of their maps."""
    stem, *rest = strides
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, stride=stem, padding=1)]
    channels = width
    for stride in rest or [1]:
        layers.append(ResidualConvolutions(channels, 2 * width, stride))
        channels = 2 * width
    # Blocks normalize their input, and so what the last one gives is not normalized yet.
    return nn.Sequential(*layers, nn.GroupNorm(GROUPS, channels), nn.SiLU()), channels


BACKBONES: dict[str, Backbone] = {"conv": convolutions, "resnet": resnet}


class ResidualConvolutions(nn.Module):
    """Two 3x3 convolutions, each after group norm and SiLU, added to their input.

    Args:
      channels, out_channels: of the maps before and after.
      stride: of the first convolution.
    """

    def __init__(self, channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.GroupNorm(GROUPS, channels),
            nn.SiLU(),
            nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1),
            nn.GroupNorm(GROUPS, out_channels),
            nn.SiLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        same = stride == 1 and channels == out_channels
        self.skip: nn.Module = (
            nn.Identity() if same else nn.Conv2d(channels, out_channels, 1, stride=stride)
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, channels, h, w) -> (B, out_channels, h / stride, w / stride)."""
        return self.skip(maps) + self.net(maps)
