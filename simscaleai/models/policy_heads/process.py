"""What the processes that sample action chunks have in common: diffusion and flows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

# (noisy actions (B, L, A), level (B,)) -> (B, L, A). A call with fewer chunks than there are observations
# is about the first of them.
Denoiser = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Process(Protocol):
    """A way from noise to action chunks, whatever network walks it; it has no parameters.

    Attributes:
      draws: number of chunks of normal numbers that one sample takes.
    """

    draws: int

    def loss(
        self, denoise: Denoiser, actions: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a network on chunks (B, L, A) with `mask` (B, L), and what it predicts."""

    def sample(self, denoise: Denoiser, noise: torch.Tensor) -> torch.Tensor:
        """Return chunks (B, L, A) within [-1, 1] from normal numbers (B, draws, L, A)."""
