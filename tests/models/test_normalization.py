from __future__ import annotations

import pytest
import torch

from simscaleai.errors import UserError
from simscaleai.models.normalization import LIMIT, Normalizer, Statistics

# Columns: mean 2 and population deviation sqrt(2/3); a constant; mean 0.5 and deviation 0.5 with noise.
VALUES = torch.tensor([[1.0, 7.0], [2.0, 7.0], [3.0, 7.0]])


def test_by_hand() -> None:
    stats = Statistics.of(VALUES)
    assert stats.mean.tolist() == [2.0, 7.0]
    assert stats.std[0].item() == pytest.approx((2 / 3) ** 0.5) and stats.std[1] == 0
    assert (stats.min.tolist(), stats.max.tolist()) == ([1.0, 7.0], [3.0, 7.0])
    out = Normalizer({"state": stats}).normalize("state", VALUES)
    # A constant is shifted to 0 and not divided by its deviation of 0.
    assert out[:, 1].tolist() == [0.0, 0.0, 0.0]
    assert out[:, 0].tolist() == pytest.approx([-(1.5**0.5), 0.0, 1.5**0.5])


def test_inverse_and_limit() -> None:
    normalizer = Normalizer({"state": Statistics.of(VALUES)})
    there = normalizer.normalize("state", VALUES + 0.3)
    torch.testing.assert_close(normalizer.unnormalize("state", there), VALUES + 0.3)
    assert normalizer.normalize("state", torch.tensor([1e6, -1e6])).tolist() == [LIMIT, -LIMIT]


def test_tiny_noise_on_a_constant_is_not_blown_up() -> None:
    values = 0.4 + 1e-6 * torch.randn(100, 1)
    out = Normalizer({"x": Statistics.of(values)}).normalize("x", values)
    assert out.abs().max() < 1e-4


def test_large_offsets_keep_their_spread() -> None:
    values = 1e4 + torch.arange(4.0)[:, None]
    assert Statistics.of(values).std.item() == pytest.approx(1.25**0.5, rel=1e-6)


def test_key_without_statistics_is_an_error() -> None:
    normalizer = Normalizer({"state": Statistics.of(VALUES)})
    with pytest.raises(UserError, match="no statistics for 'image', only for state"):
        normalizer.normalize("image", VALUES)
    with pytest.raises(UserError, match="no statistics"):
        normalizer.unnormalize("actions", VALUES)
    with pytest.raises(UserError, match="no steps"):
        Statistics.of(torch.zeros(0, 3))


def test_statistics_travel_in_the_state_dict() -> None:
    full = Normalizer({"state": Statistics.of(VALUES)})
    blank = Normalizer.blank({"state": 2})
    assert blank.normalize("state", VALUES).equal(VALUES)
    blank.load_state_dict(full.state_dict())
    assert blank.normalize("state", VALUES).equal(full.normalize("state", VALUES))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("min_max", [-1.0, -0.8, 1.0]),
        ("quantiles", [-1.0041, -0.8, 1.0367]),  # 0.02 and 9.82 become -1 and 1
        ("identity", [0.0, 1.0, 10.0]),
        ("mean_std", [-0.8154, -0.5930, 1.4084]),
    ],
)
def test_modes_by_hand(mode: str, expected: list[float]) -> None:
    values = torch.tensor([[0.0], [1.0], [10.0]])
    normalizer = Normalizer({"x": Statistics.of(values)}, {"x": mode})
    there = normalizer.normalize("x", values)
    assert there.flatten().tolist() == pytest.approx(expected, abs=1e-3)
    torch.testing.assert_close(normalizer.unnormalize("x", there), values)


def test_quantiles_leave_outliers_out() -> None:
    values = torch.cat([torch.linspace(-2, 2, 1001), torch.tensor([50.0])])[:, None]
    there = Normalizer({"x": Statistics.of(values)}, {"x": "quantiles"}).normalize("x", values)
    assert there[:1001].abs().max().item() == pytest.approx(1 / 0.98, abs=0.01)
    assert there[1001].item() == LIMIT


@pytest.mark.parametrize("mode", ["min_max", "quantiles"])
def test_what_did_not_move_is_not_stretched(mode: str) -> None:
    values = torch.full((5, 1), 0.3)
    normalizer = Normalizer({"x": Statistics.of(values)}, {"x": mode})
    assert normalizer.normalize("x", values + 0.1).flatten().tolist() == pytest.approx([0.1] * 5)


def test_unknown_mode_lists_the_known() -> None:
    with pytest.raises(UserError, match="'min-max'; known: identity, mean_std, min_max, quantiles"):
        Normalizer({"x": Statistics.of(VALUES)}, {"x": "min-max"})
