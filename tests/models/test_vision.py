from __future__ import annotations

import pytest
import torch

from simscaleai.models.backbones import BACKBONES
from simscaleai.models.vision import (
    Augmentation,
    ImageEncoder,
    SpatialSoftmax,
)


def test_images_are_changed_in_training_alone() -> None:
    images = torch.rand(4, 3, 16, 16)
    augment = Augmentation(random_shift=3, color_jitter=0.3)
    assert augment(images).shape == images.shape and not torch.equal(augment(images), images)
    assert augment(images).min() >= 0 and augment(images).max() <= 1
    before = torch.get_rng_state()
    assert augment.eval()(images) is images
    assert torch.equal(before, torch.get_rng_state())


def test_a_shift_moves_the_picture_and_repeats_its_edge() -> None:
    torch.manual_seed(0)
    ramp = torch.arange(8.0).view(1, 1, 1, 8).expand(64, 3, 8, 8)  # the column's number
    shifted = Augmentation(random_shift=2)(ramp)
    assert (shifted == shifted[:, :1, :1]).all()  # rows and channels move together
    starts = {tuple(row) for row in shifted[:, 0, 0].int().tolist()}
    assert starts == {
        (0, 0, 0, 1, 2, 3, 4, 5),
        (0, 0, 1, 2, 3, 4, 5, 6),
        (0, 1, 2, 3, 4, 5, 6, 7),
        (1, 2, 3, 4, 5, 6, 7, 7),
        (2, 3, 4, 5, 6, 7, 7, 7),
    }


def test_colours_of_grey_stay_grey() -> None:
    grey = torch.full((8, 3, 4, 4), 0.5)
    out = Augmentation(color_jitter=0.2)(grey)
    assert torch.allclose(out, out[:, :1])
    assert 0.4 <= out.min() < out.max() <= 0.6  # brightness alone is seen


def test_spatial_softmax_points_at_the_strongest_place() -> None:
    maps = torch.zeros(1, 2, 5, 9)
    maps[0, 0, 0, 8] = maps[0, 1, 4, 4] = 100.0
    # x of both, then y of both
    torch.testing.assert_close(SpatialSoftmax()(maps), torch.tensor([[1.0, 0.0, -1.0, 1.0]]))


@pytest.mark.parametrize("size", [8, 20, 64])
@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_features_of_any_size_and_backbone(size: int, backbone: str) -> None:
    encoder = ImageEncoder(3, size, 24, width=16, backbone=backbone)
    assert encoder(torch.rand(2, 3, size, size)).shape == (2, 24)


@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_a_condition_changes_what_is_found(backbone: str) -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder(3, 16, 24, width=8, backbone=backbone, cond_dim=5)
    images, cond = torch.rand(2, 3, 16, 16), torch.randn(2, 5)
    before = encoder(images, cond)
    after = encoder(images, torch.stack([cond[0], cond[1] + 1]))
    # of the image whose condition changed, and of no other
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])
