"""Statistics of the features of a LeRobot dataset: min, max, mean, std, count and five quantiles.

Images count in [0, 1], per channel, with the shape (3, 1, 1). Their pixels are sampled, as LeRobot does:
at most `_IMAGE_FRAMES` frames of an episode. Quantiles of the whole dataset are exact up to
`_QUANTILE_STEPS` steps, and beyond that they are those of every k-th step (LeRobot merges episodes to the
smallest and the largest of their quantiles instead).
"""

from __future__ import annotations

import numpy as np

from simscaleai.array_types import Array, FloatArray
from simscaleai.json_types import JsonDict
from simscaleai.storage.array_statistics import ArrayStatistics

_QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
_IMAGE_FRAMES = 16
_QUANTILE_STEPS = 100_000
_QUANTILE_PIXELS = 300_000


class FeatureStatistics:
    """Statistics of one feature over all episodes.

    Args:
      total_steps: of the dataset, which decides how many steps quantiles are taken from.
      is_image: whether episodes are images (T, H, W, 3) uint8.
    """

    def __init__(self, total_steps: int, *, is_image: bool = False) -> None:
        self._is_image = is_image
        self._total = total_steps
        self._every = -(-total_steps // _QUANTILE_STEPS)
        self._steps = 0
        self._merged: ArrayStatistics | None = None
        self._sample: list[FloatArray] = []

    def add(self, values: Array) -> JsonDict:
        """Add an episode, (T, ...); return its own statistics as JSON values."""
        if self._is_image:
            frames = values[:: -(-len(values) // _IMAGE_FRAMES)]
            flat = frames.reshape(-1, frames.shape[-1]).astype(np.float64) / 255  # (pixels, 3)
            count = len(frames)
            # the episode's part of all pixels that are sampled
            sampled = flat[:: max(1, len(flat) * self._total // (_QUANTILE_PIXELS * len(values)))]
        else:
            flat = values.reshape(len(values), -1).astype(np.float64)  # (T, d)
            count = len(values)
            # counted over episodes, so that every k-th step of the dataset is taken
            sampled = flat[-self._steps % self._every :: self._every]
            self._steps += count
        own = ArrayStatistics.of(flat)
        own = ArrayStatistics(count, own.mean, own.variance, own.low, own.high)
        self._merged = own if self._merged is None else ArrayStatistics.merge([self._merged, own])
        self._sample.append(sampled)
        return self._as_json(own, flat)

    def total(self) -> JsonDict:
        """Return the statistics of all episodes so far, at least one."""
        assert self._merged is not None
        return self._as_json(self._merged, np.concatenate(self._sample))

    def _as_json(self, values: ArrayStatistics, sample: FloatArray) -> JsonDict:
        found = {
            "min": values.low,
            "max": values.high,
            "mean": values.mean,
            "std": np.sqrt(values.variance),
            "count": np.array([values.count]),
        }
        quantiles = np.quantile(sample, _QUANTILES, axis=0)  # (5, d)
        found |= {f"q{100 * q:02.0f}": row for q, row in zip(_QUANTILES, quantiles, strict=True)}
        shape = (-1, 1, 1) if self._is_image else (-1,)
        return {
            name: (value if name == "count" else value.reshape(shape)).tolist()
            for name, value in found.items()
        }
