"""Schedules and sampling against closed forms: for a Gaussian the best denoiser is known."""

from __future__ import annotations

import math

import pytest
import torch

from simscaleai.errors import UserError
from simscaleai.models.policy_heads.gaussian_diffusion import PURE_NOISE, GaussianDiffusion

MEAN, STD = 0.3, 0.15


def best_denoiser(process: GaussianDiffusion):
    """E[x0 | x_t] for x0 ~ N(MEAN, STD^2)."""

    def denoise(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        a = process.alpha_bars[level].view(-1, 1, 1)
        gain = a.sqrt() * STD**2 / (a * STD**2 + 1 - a)
        return MEAN + gain * (x - a.sqrt() * MEAN)

    return denoise


def samples(process: GaussianDiffusion, n: int = 20_000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(n, process.draws, 1, 1, generator=generator)
    return process.sample(best_denoiser(process), noise).flatten()


def test_linear_schedule_is_literal_and_ends_in_pure_noise() -> None:
    process = GaussianDiffusion()
    betas = 1 - process.alpha_bars[1:100] / process.alpha_bars[:99]
    torch.testing.assert_close(betas, torch.linspace(1e-4, 0.02, 100)[1:], atol=1e-6, rtol=0)
    assert process.alpha_bars[0].item() == pytest.approx(1 - 1e-4)
    # exp of the sum of log(1 - beta): 0.364 of the signal is left, so one more level is put at the end
    assert process.alpha_bars[99].item() == pytest.approx(0.3637, abs=1e-3)
    assert process.alpha_bars[100] == 0 and len(process.alpha_bars) == 101


def test_cosine_schedule() -> None:
    process = GaussianDiffusion(schedule="cosine")
    assert len(process.alpha_bars) == 100 and process.alpha_bars[-1] < PURE_NOISE

    def bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    assert process.alpha_bars[49].item() == pytest.approx(bar(0.5) / bar(0), rel=1e-5)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_every_level_with_eta_1_is_the_posterior_of_ddpm(schedule: str) -> None:
    process = GaussianDiffusion(schedule=schedule, sampler="ddpm")
    bars = process.alpha_bars.double()
    x, x0 = torch.tensor([[[0.7]]]), torch.tensor([[[-0.2]]])
    wide = {"atol": 2e-5, "rtol": 1e-3}
    assert process.levels == list(range(len(bars) - 1, -1, -1))
    for t in (1, 40, len(bars) - 1):
        beta = 1 - bars[t] / bars[t - 1]
        # Ho et al., equation 7
        mean = bars[t - 1].sqrt() * beta / (1 - bars[t]) * x0
        mean = mean + (1 - beta).sqrt() * (1 - bars[t - 1]) / (1 - bars[t]) * x
        variance = (1 - bars[t - 1]) / (1 - bars[t]) * beta
        still = process.step(x, x0, t, t - 1, torch.zeros_like(x))
        moved = process.step(x, x0, t, t - 1, torch.ones_like(x))
        torch.testing.assert_close(still.double(), mean.double(), **wide)
        added = (moved - still).double().square()
        torch.testing.assert_close(added, variance.view(1, 1, 1), **wide)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_gaussian_is_recovered(schedule: str, sampler: str) -> None:
    drawn = samples(GaussianDiffusion(100, 100, schedule=schedule, sampler=sampler))
    assert drawn.mean().item() == pytest.approx(MEAN, abs=0.01)
    # The posterior of ddpm takes x0 for known, and so with 100 levels it is a little too narrow.
    assert drawn.std().item() == pytest.approx(STD, rel=0.1 if sampler == "ddpm" else 0.05)


def test_few_steps_keep_the_mean_and_most_of_the_spread() -> None:
    process = GaussianDiffusion()
    assert process.levels == [100, 90, 80, 70, 60, 49, 39, 29, 19, 9]
    drawn = samples(process)
    assert drawn.mean().item() == pytest.approx(MEAN, abs=0.01)
    # By the strided formula: the affine map of each step multiplies the deviation, and x starts with 1.
    bars = torch.cat(
        [process.alpha_bars[process.levels].double(), torch.ones(1, dtype=torch.float64)]
    )
    factor = 1.0
    for a, b in zip(bars[:-1].tolist(), bars[1:].tolist(), strict=True):
        gain = math.sqrt(a) * STD**2 / (a * STD**2 + 1 - a)  # of x0 in x
        factor *= math.sqrt(b) * gain + math.sqrt((1 - b) / (1 - a)) * (1 - math.sqrt(a) * gain)
    assert drawn.std().item() == pytest.approx(factor, rel=0.02)
    assert factor == pytest.approx(STD, rel=0.35)


def test_samples_stay_in_range_whatever_the_network_says() -> None:
    for sampler in ("ddim", "ddpm"):
        process = GaussianDiffusion(sampler=sampler)
        drawn = process.sample(lambda x, level: 50 * x, torch.randn(64, process.draws, 2, 3))
        assert drawn.abs().max() <= 1


def test_padding_does_not_count() -> None:
    process = GaussianDiffusion()
    actions, mask = torch.zeros(4, 3, 2), torch.tensor([[True, True, False]] * 4)

    def wrong_in_padding(x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        return torch.where(mask[..., None], torch.full_like(x, 0.5), 9.0)

    loss, _ = process.loss(wrong_in_padding, actions, mask)
    assert loss.item() == pytest.approx(0.25)


def test_misspelled_settings_are_clear() -> None:
    with pytest.raises(UserError, match="schedule 'cos'; known: cosine, linear"):
        GaussianDiffusion(schedule="cos")
    with pytest.raises(UserError, match="sampler 'dim'"):
        GaussianDiffusion(sampler="dim")
    with pytest.raises(UserError, match="num_inference_steps is 200; 1 to num_diffusion_steps"):
        GaussianDiffusion(num_inference_steps=200)
