"""Per-feature normalization whose statistics travel inside the checkpoint.

Every mode is a shift and a scale for each feature, and so it can be undone:

    mean_std     zero mean and unit variance
    min_max      the range of the data becomes [-1, 1]
    quantiles    the range from the 1st to the 99th percentile becomes [-1, 1]; outliers lie beyond
    identity     nothing changes

Statistics come from the training split alone. A feature that hardly moved there has no scale of its
own: it is shifted and not stretched, for otherwise the noise of a constant would drown the rest. And
whatever lies beyond `LIMIT` after normalization is cut off, so that one feature that leaves the range
of the demonstrations does not throw the whole network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from simscaleai.errors import UserError, unknown_name

MODES = ("mean_std", "min_max", "quantiles", "identity")
DEFAULT_MODE = "mean_std"
QUANTILES = (0.01, 0.99)
MIN_STD = 1e-4  # 0.1 mm, or about 0.006 degrees: below what a task turns on
LIMIT = 10.0


@dataclass(frozen=True)
class Statistics:
    """Of one key, each (d,) float32; `low` and `high` are its quantiles, None where nobody asked."""

    mean: torch.Tensor
    std: torch.Tensor
    min: torch.Tensor
    max: torch.Tensor
    low: torch.Tensor | None = None
    high: torch.Tensor | None = None

    @classmethod
    def of(cls, values: torch.Tensor) -> Statistics:
        """Statistics over the rows of (N, d) values; the standard deviation is of the population."""
        if not len(values):
            raise UserError("There is nothing to compute statistics from: the split has no steps.")
        wide = values.double()
        std, mean = torch.std_mean(wide, dim=0, correction=0)
        least, most = values.aminmax(dim=0)
        low, high = (torch.from_numpy(q) for q in np.quantile(values.numpy(), QUANTILES, axis=0))
        return cls(mean.float(), std.float(), least, most, low.float(), high.float())

    def shift_and_scale(self, mode: str) -> tuple[torch.Tensor, torch.Tensor]:
        """What is subtracted and what is then divided by, (d,) each, before flat features are spared."""
        if mode == "mean_std":
            return self.mean, self.std
        low, high = (self.min, self.max) if mode == "min_max" else (self.low, self.high)
        assert low is not None and high is not None
        return (high + low) / 2, (high - low) / 2


class Normalizer(nn.Module):
    """Maps the values of known keys to where a network wants them, and back.

    Args:
      statistics: {key: Statistics}; a key that is not here cannot be normalized.
      modes: {key: mode}; "mean_std" for a key that is not here.

    Raises:
      UserError: there is no such mode.
    """

    def __init__(
        self, statistics: Mapping[str, Statistics], modes: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.modes = {key: (modes or {}).get(key, DEFAULT_MODE) for key in sorted(statistics)}
        for key, mode in self.modes.items():
            if mode not in MODES:
                raise unknown_name(f"normalization of {key!r}:", mode, MODES)
            if mode == "identity":
                continue
            shift, scale = statistics[key].shift_and_scale(mode)
            # Named after the first mode there was, so that old checkpoints are still read.
            self.register_buffer(f"{key}_mean", shift.clone())
            self.register_buffer(f"{key}_std", torch.where(scale < MIN_STD, 1.0, scale))

    @classmethod
    def blank(cls, widths: Mapping[str, int], modes: Mapping[str, str] | None = None) -> Normalizer:
        """One that changes nothing yet, {key: d}: the shape to load saved statistics into."""
        zeros = {k: torch.zeros(d) for k, d in widths.items()}
        return cls(
            {k: Statistics(z, z + 1, z - 1, z + 1, z - 1, z + 1) for k, z in zeros.items()}, modes
        )

    def normalize(self, key: str, values: torch.Tensor) -> torch.Tensor:
        """(..., d) -> (..., d), within [-LIMIT, LIMIT]; UserError for a key without statistics."""
        if self._mode(key) == "identity":
            return values
        shift, scale = self._of(key)
        return ((values - shift) / scale).clamp(-LIMIT, LIMIT)

    def unnormalize(self, key: str, values: torch.Tensor) -> torch.Tensor:
        """(..., d) -> (..., d); the inverse of `normalize` wherever that cut nothing off."""
        if self._mode(key) == "identity":
            return values
        shift, scale = self._of(key)
        return values * scale + shift

    def _mode(self, key: str) -> str:
        if key not in self.modes:
            raise UserError(
                f"There are no statistics for {key!r}, only for {', '.join(self.modes) or 'nothing'};"
                " compute them from the training data."
            )
        return self.modes[key]

    def _of(self, key: str) -> tuple[torch.Tensor, torch.Tensor]:
        return getattr(self, f"{key}_mean"), getattr(self, f"{key}_std")
