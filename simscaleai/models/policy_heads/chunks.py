"""Chunks of actions: the mean over those that are there, and what every head gives.

The last windows of an episode reach past its end. What lies there is padding, `mask` (B, L) is False for it,
and no loss may count it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Loss = Callable[..., torch.Tensor]


def masked_mean(errors: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The mean of (B, L, A), or of (B, A), over the entries that `mask` (B, L) does not leave out."""
    if mask is None:
        return errors.mean()
    weights = mask.to(errors.dtype).unsqueeze(-1)
    return (errors * weights).sum() / (weights.sum() * errors.shape[-1]).clamp(min=1)


def head_outputs(
    head: Any,
    features: torch.Tensor,
    actions: torch.Tensor,
    mask: torch.Tensor | None,
    loss: Loss,
) -> dict[str, torch.Tensor]:
    """{"loss", "predicted_actions"} of a head that regresses, by `loss`, or of one that samples, by its own.

    Args:
      features: (B, input_dim).
      actions, mask: (B, L, A) and (B, L), or (B, A) and None.
      loss: a function of predictions, actions and `reduction`, as those of PyTorch.
    """
    if hasattr(head, "noise_shape"):
        return head(features, actions, mask)
    predicted = head(features)
    if mask is None:
        value = loss(predicted, actions)
    else:
        value = masked_mean(loss(predicted, actions, reduction="none"), mask)
    return {"loss": value, "predicted_actions": predicted}


def head_actions(
    head: Any, features: torch.Tensor, noise: torch.Tensor | None = None
) -> torch.Tensor:
    """Actions (B, L, A) or (B, A); of a head that samples, from `noise` (B, *head.noise_shape).

    Without noise the same numbers are used at every call, and none of the global RNG state.
    """
    if not hasattr(head, "noise_shape"):
        return head(features)
    if noise is None:
        noise = fixed_noise((len(features), *head.noise_shape), features)
    return head(features, noise=noise)["predicted_actions"]


def fixed_noise(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Normal numbers, the same at every call, on the device and of the type of `like`."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(like)
