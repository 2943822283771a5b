"""Count, mean, variance and range of an array over steps, which are merged without the values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simscaleai.array_types import Array, FloatArray
from simscaleai.json_types import JsonDict

_FIELDS = ("mean", "variance", "low", "high")


@dataclass(frozen=True)
class ArrayStatistics:
    """Statistics of values (count, d), each but `count` a (d,) float64 array.

    Attributes:
      count: number of steps.
      mean, variance: of every dimension; the variance is that of the population.
      low, high: smallest and largest value.
    """

    count: int
    mean: FloatArray
    variance: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, values: Array) -> ArrayStatistics:
        """Return the statistics of values (T, ...), flattened to (T, d); T is at least 1."""
        flat = values.reshape(len(values), -1).astype(
            np.float64
        )  # (T, d); float32 loses digits over millions of steps
        return cls(
            len(flat), flat.mean(axis=0), flat.var(axis=0), flat.min(axis=0), flat.max(axis=0)
        )

    @classmethod
    def merge(cls, parts: Sequence[ArrayStatistics]) -> ArrayStatistics:
        """Return the statistics of all values of `parts`, at least one.

        The variance of a union is the mean variance plus the variance of the means, both weighted with the
        counts (Chan, Golub and LeVeque, 1979).
        """
        counts = np.array([part.count for part in parts], np.float64)  # (parts,)
        weights = counts / counts.sum()
        means = np.stack([part.mean for part in parts])  # (parts, d)
        mean = weights @ means
        variances = np.stack([part.variance for part in parts])  # (parts, d)
        return cls(
            int(counts.sum()),
            mean,
            weights @ (variances + (means - mean) ** 2),
            np.min([part.low for part in parts], axis=0),
            np.max([part.high for part in parts], axis=0),
        )

    def split(self, count: int) -> list[ArrayStatistics]:
        """Return the statistics of `count` vectors that lie side by side, each of d / count dimensions."""
        fields = (np.split(getattr(self, name), count) for name in _FIELDS)
        return [ArrayStatistics(self.count, *parts) for parts in zip(*fields, strict=True)]

    def to_dict(self) -> JsonDict:
        """Return JSON values; `from_dict` gives back the very same numbers."""
        return {"count": self.count, **{name: getattr(self, name).tolist() for name in _FIELDS}}

    @classmethod
    def from_dict(cls, values: JsonDict) -> ArrayStatistics:
        """Inverse of `to_dict`.

        Raises:
          ValueError, TypeError, KeyError: the values are no statistics.
        """
        arrays = [np.array(values[name], np.float64) for name in _FIELDS]
        if len({array.shape for array in arrays}) > 1 or arrays[0].ndim != 1:
            raise ValueError("statistics of different widths")
        count = int(values["count"])
        if count < 1 or not all(np.isfinite(array).all() for array in arrays[:2]):
            raise ValueError("statistics that cannot be")
        return cls(count, *arrays)
