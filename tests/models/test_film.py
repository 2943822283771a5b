from __future__ import annotations

import torch

from simscaleai.models.film import FiLM


def test_channels_are_scaled_and_shifted_by_the_condition() -> None:
    film = FiLM(1, 2)
    with torch.no_grad():
        film.weight.copy_(torch.tensor([[1.0], [0.0], [0.0], [3.0]]))
        film.bias.zero_()
    maps = torch.full((2, 2, 4, 4), 10.0)
    out = film(maps, torch.tensor([[0.0], [2.0]]))
    assert torch.equal(out[0], maps[0])
    # a condition of 2: the first channel times 1 + 2, the second plus 3 * 2
    assert (out[1, 0] == 30).all() and (out[1, 1] == 16).all()
    torch.testing.assert_close(
        film(maps[:, :, 0, 0], torch.tensor([[0.0], [2.0]])), out[:, :, 0, 0]
    )
