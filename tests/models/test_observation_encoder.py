from __future__ import annotations

import torch

from simscaleai.models.observation_encoder import ObservationEncoder
from simscaleai.models.vision import ImageSettings, image_keys


def test_several_cameras_and_steps_lie_side_by_side() -> None:
    keys = image_keys(False, ["front", "image"])
    assert keys == ("images/front", "image")
    assert image_keys(True, None) == ("image",) and image_keys(False, None) == ()
    encoder = ObservationEncoder(5, ImageSettings(tuple(keys), 3, 16, 7), n_obs_steps=2).eval()
    obs = {"state": torch.randn(4, 2, 5), **{k: torch.rand(4, 2, 3, 16, 16) for k in keys}}
    out = encoder(obs).features
    assert out.shape == (4, encoder.width) == (4, 2 * (5 + 2 * 7))
    assert encoder.keys == ("state", *keys)
    # the present image of the first camera is its second part
    changed = obs["images/front"].clone()
    changed[:, 1] = torch.rand(4, 3, 16, 16)
    other = encoder({**obs, "images/front": changed}).features
    differs = (other != out).any(0).nonzero().flatten().tolist()
    assert differs == list(range(10 + 7, 10 + 14))


def test_one_encoder_for_all_cameras_sees_them_alike() -> None:
    keys = ("images/front", "images/wrist")
    images = torch.rand(2, 3, 16, 16)
    obs = dict.fromkeys(keys, images)
    for per_camera in (True, False):
        settings = ImageSettings(keys, 3, 16, 7, encoder_per_camera=per_camera)
        encoder = ObservationEncoder(0, settings).eval()
        front, wrist = encoder(obs).parts
        assert len(encoder.images) == (2 if per_camera else 1)
        assert torch.equal(front, wrist) is not per_camera


def test_predicted_positions_are_one_more_part() -> None:
    settings = ImageSettings(("image",), 3, 16, 7, auxiliary=("object_pos", "target_pos"))
    encoder = ObservationEncoder(5, settings, n_obs_steps=2).eval()
    obs = {"state": torch.randn(4, 2, 5), "image": torch.rand(4, 2, 3, 16, 16)}
    encoded = encoder(obs)
    assert encoded.offsets is not None and encoded.offsets.shape == (4, 2, 3)
    # both positions of 3 numbers: scaled, and their tanh over 2 scales
    assert [part.shape[1] for part in encoded.parts] == [2 * 5, 2 * 7, 2 * 3 * 3]
    assert encoded.features.shape == (4, encoder.width)
    assert encoder.privileged_keys == ("ee_pos", "object_pos", "target_pos")
