"""Running mean and variance of observations or returns, for normalization."""

from __future__ import annotations

import torch
from torch import nn

from simscaleai.distributed import Processes
from simscaleai.models.normalization import Statistics


class RunningMeanStd(nn.Module):
    """Running mean and variance of samples, in double precision; part of the agent's checkpoint.

    Args:
      dim: width of a sample.
    """

    count: torch.Tensor  # ()
    mean: torch.Tensor  # (dim,)
    m2: torch.Tensor  # (dim,), sum of squared deviations from the mean

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("m2", torch.zeros(dim, dtype=torch.float64))

    def update(self, samples: torch.Tensor) -> None:
        """Include samples (n, dim); n may be 0."""
        if not len(samples):
            return
        samples = samples.double()
        mean = samples.mean(0)  # (dim,)
        count = torch.tensor(float(len(samples)), dtype=torch.float64)
        self._merge(count, mean, ((samples - mean) ** 2).sum(0))

    def merge(self, other: RunningMeanStd) -> None:
        """Include all samples of `other`."""
        self._merge(other.count, other.mean, other.m2)

    def all_reduce(self, processes: Processes) -> RunningMeanStd:
        """Return the statistics of the samples of all processes; equal in all of them."""
        if processes.size == 1:
            return self
        total = RunningMeanStd(len(self.mean))
        # merged in the order of ranks: all processes get the same rounding
        for part in processes.all_gather((self.count, self.mean, self.m2)):
            total._merge(*part)
        return total

    def _merge(self, count: torch.Tensor, mean: torch.Tensor, m2: torch.Tensor) -> None:
        """Merge by Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm", 1979."""
        total = (self.count + count).clamp(min=1)
        delta = mean - self.mean  # (dim,)
        # m2 = m2_a + m2_b + delta^2 n_a n_b / (n_a + n_b)
        self.m2.add_(m2 + delta**2 * self.count * count / total)
        # mean = mean_a + delta n_b / (n_a + n_b)
        self.mean.add_(delta * count / total)
        self.count.add_(count)

    def statistics(self) -> Statistics:
        """Return mean and standard deviation; before the first sample those of a standard normal."""
        mean = self.mean.float()
        std = (self.m2 / self.count.clamp(min=1)).sqrt().float()
        return Statistics(mean, std if self.count > 0 else torch.ones_like(std), mean, mean)

    def scale(self) -> float:
        """Return the standard deviation of samples (n, 1), as a divisor: never 0.

        It is 1 while all samples are equal, as a single sample is.
        """
        std = self.statistics().std.item()
        return max(std, 1e-4) if self.count > 1 and std > 1e-8 else 1.0
