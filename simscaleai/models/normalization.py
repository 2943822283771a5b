"""Per-feature normalization, whose statistics are saved in the checkpoint.

Every mode is a shift and a scale for each feature, so that it can be inverted:

    mean_std     zero mean and unit variance
    min_max      the range of the data becomes [-1, 1]
    quantiles    the range from the 1st to the 99th percentile becomes [-1, 1]; outliers lie outside
    identity     nothing changes

Statistics come from the training split only. A feature that is almost constant there is shifted and not
scaled: dividing by its standard deviation would amplify its noise above all other features. Normalized values
are clipped to [-LIMIT, LIMIT], so that one feature that leaves the range of the demonstrations does not
saturate the whole network.
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
    """Statistics of one key, (d,) float32 each; `low` and `high` are `QUANTILES`, None if not computed."""

    mean: torch.Tensor
    std: torch.Tensor
    min: torch.Tensor
    max: torch.Tensor
    low: torch.Tensor | None = None
    high: torch.Tensor | None = None

    @classmethod
    def of(cls, values: torch.Tensor) -> Statistics:
        """Return the statistics of values (N, d) over N; std divides by N, not by N - 1."""
        if not len(values):
            raise UserError("There is nothing to compute statistics from: the split has no steps.")
        # A float32 sum over millions of steps loses digits of the variance.
        wide = values.double()
        std, mean = torch.std_mean(wide, dim=0, correction=0)
        least, most = values.aminmax(dim=0)
        low, high = (torch.from_numpy(q) for q in np.quantile(values.numpy(), QUANTILES, axis=0))
        return cls(mean.float(), std.float(), least, most, low.float(), high.float())

    def shift_and_scale(self, mode: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (shift, scale) of a mode, (d,) each; the scale of a constant feature is 0 here."""
        if mode == "mean_std":
            return self.mean, self.std
        low, high = (self.min, self.max) if mode == "min_max" else (self.low, self.high)
        assert low is not None and high is not None
        return (high + low) / 2, (high - low) / 2


class Normalizer(nn.Module):
    """Normalizes the values of some keys, and inverts it.

    Args:
      statistics: {key: Statistics}; other keys cannot be normalized.
      modes: {key: mode}; the mode is "mean_std" for a key that is missing here.

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
            # Named after the mode "mean_std", whatever the mode: checkpoints have these names.
            self.register_buffer(f"{key}_mean", shift.clone())
            # `MIN_STD` is in the unit of the feature, m or rad.
            self.register_buffer(f"{key}_std", torch.where(scale < MIN_STD, 1.0, scale))

    @classmethod
    def blank(cls, widths: Mapping[str, int], modes: Mapping[str, str] | None = None) -> Normalizer:
        """Return a normalizer of widths {key: d} that changes nothing, to load saved statistics into."""
        zeros = {k: torch.zeros(d) for k, d in widths.items()}
        return cls(
            {k: Statistics(z, z + 1, z - 1, z + 1, z - 1, z + 1) for k, z in zeros.items()}, modes
        )

    def normalize(self, key: str, values: torch.Tensor) -> torch.Tensor:
        """Return normalized values (..., d), clipped to +-LIMIT; UserError for a key without statistics."""
        if self._mode(key) == "identity":
            return values
        shift, scale = self._of(key)
        return ((values - shift) / scale).clamp(-LIMIT, LIMIT)

    def unnormalize(self, key: str, values: torch.Tensor) -> torch.Tensor:
        """Return values (..., d) in their own units: the inverse of `normalize` where it did not clip."""
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
