from __future__ import annotations

import pytest
import torch

from simscaleai.errors import UserError
from simscaleai.models.backbones import BACKBONES, make_backbone


@pytest.mark.parametrize("name", list(BACKBONES))
@pytest.mark.parametrize(("size", "side"), [(8, 8), (20, 10), (64, 16), (128, 16)])
def test_maps(name: str, size: int, side: int) -> None:
    maps, channels = make_backbone(name, 3, size, width=8)
    assert channels == 16 or size == 8
    assert maps(torch.rand(2, 3, size, size)).shape == (2, channels, side, side)


@pytest.mark.parametrize("name", list(BACKBONES))
def test_an_image_is_mapped_as_it_would_be_alone(name: str) -> None:
    maps, _ = make_backbone(name, 3, 32, width=8)
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(maps.train()(images)[1:2], maps.eval()(images[1:2]))


def reach(name: str) -> int:
    """Pixels a side of the image that one place of a map depends on."""
    maps, _ = make_backbone(name, 1, 128, width=8)
    # Without norms, which mix all places, and with positive weights, so that nothing cancels.
    layers = [m for m in maps.modules() if isinstance(m, torch.nn.GroupNorm)]
    for layer in layers:
        layer.forward = lambda x: x  # type: ignore[method-assign]
    for weight in maps.parameters():
        weight.data.abs_()
    image = torch.ones(1, 1, 128, 128, requires_grad=True)
    maps(image)[0, 0, 8, 8].backward()
    assert image.grad is not None
    return int((image.grad[0, 0] != 0).any(0).sum())


def test_a_resnet_sees_more_of_the_image_at_each_place() -> None:
    # 3x3 convolutions of strides 2, 2, 2, 1: 1 + 2 (1 + 2 + 4 + 8) = 31 pixels. The resnet has strides
    # 2, then (2, 1), (2, 1), (1, 1): 1 + 2 (1 + 2 + 4 + 4 + 8 + 8 + 8) = 71.
    assert reach("conv") == 31
    assert reach("resnet") == 71


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match="vgg"):
        make_backbone("vgg", 3, 64)
    with pytest.raises(UserError, match="image_size is 4"):
        make_backbone("conv", 3, 4)
    with pytest.raises(UserError, match="backbone_width is 12"):
        make_backbone("conv", 3, 64, width=12)
