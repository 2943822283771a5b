"""Per-feature normalization whose statistics travel inside the checkpoint.

Statistics come from the training split alone. A feature that hardly moved there has no scale of its
own: it is shifted and not stretched, for otherwise the noise of a constant would drown the rest. And
whatever lies beyond `LIMIT` standard deviations is cut off, so that one feature that leaves the range
of the demonstrations does not throw the whole network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from simscaleai.errors import UserError

MIN_STD = 1e-4  # 0.1 mm, or about 0.006 degrees: below what a task turns on
LIMIT = 10.0


@dataclass(frozen=True)
class Statistics:
    """Of one key, each (d,) float32."""

    mean: torch.Tensor
    std: torch.Tensor
    min: torch.Tensor
    max: torch.Tensor

    @classmethod
    def of(cls, values: torch.Tensor) -> Statistics:
        """Statistics over the rows of (N, d) values; the standard deviation is of the population."""
        if not len(values):
            raise UserError("There is nothing to compute statistics from: the split has no steps.")
        wide = values.double()
        std, mean = torch.std_mean(wide, dim=0, correction=0)
        low, high = values.aminmax(dim=0)
        return cls(mean.float(), std.float(), low, high)


class Normalizer(nn.Module):
    """Maps the values of known keys to zero mean and unit variance, and back.

    Args:
      statistics: {key: Statistics}; a key that is not here cannot be normalized.
    """

    def __init__(self, statistics: Mapping[str, Statistics]) -> None:
        super().__init__()
        self.keys = sorted(statistics)
        for key, s in statistics.items():
            flat = s.std < MIN_STD
            self.register_buffer(f"{key}_mean", s.mean.clone())
            self.register_buffer(f"{key}_std", torch.where(flat, torch.ones_like(s.std), s.std))

    @classmethod
    def blank(cls, widths: Mapping[str, int]) -> Normalizer:
        """One that changes nothing yet, {key: d}: the shape to load saved statistics into."""
        zeros = {k: torch.zeros(d) for k, d in widths.items()}
        return cls({k: Statistics(z, z + 1, z, z) for k, z in zeros.items()})

    def normalize(self, key: str, values: torch.Tensor) -> torch.Tensor:
        """(..., d) -> (..., d), within [-LIMIT, LIMIT]; UserError for a key without statistics."""
        mean, std = self._of(key)
        return ((values - mean) / std).clamp(-LIMIT, LIMIT)

    def unnormalize(self, key: str, values: torch.Tensor) -> torch.Tensor:
        """(..., d) -> (..., d); the inverse of `normalize` wherever that cut nothing off."""
        mean, std = self._of(key)
        return values * std + mean

    def _of(self, key: str) -> tuple[torch.Tensor, torch.Tensor]:
        if key not in self.keys:
            raise UserError(
                f"There are no statistics for {key!r}, only for {', '.join(self.keys) or 'nothing'};"
                " compute them from the training data."
            )
        return getattr(self, f"{key}_mean"), getattr(self, f"{key}_std")
