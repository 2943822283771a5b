"""Running mean and variance of what an agent sees, for normalization."""

from __future__ import annotations

import torch
from torch import nn

from simscaleai.distributed import Processes
from simscaleai.models.normalization import Statistics


class RunningMoments(nn.Module):
    """Mean and variance over all rows so far, in double precision; saved with the agent.

    Args:
      dim: width of a row.
    """

    count: torch.Tensor  # ()
    mean: torch.Tensor  # (dim,)
    m2: torch.Tensor  # (dim,), sum of squared deviations from the mean

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("m2", torch.zeros(dim, dtype=torch.float64))

    def update(self, rows: torch.Tensor) -> None:
        """Take in rows (n, dim); n may be 0."""
        if not len(rows):
            return
        rows = rows.double()
        mean = rows.mean(0)
        count = torch.tensor(float(len(rows)), dtype=torch.float64)
        self._merge(count, mean, ((rows - mean) ** 2).sum(0))

    def merge(self, other: RunningMoments) -> None:
        """Take in all rows of another one."""
        self._merge(other.count, other.mean, other.m2)

    def over(self, processes: Processes) -> RunningMoments:
        """What all processes have seen together, the same in each."""
        if processes.size == 1:
            return self
        together = RunningMoments(len(self.mean))
        # in the order of ranks, and so rounded alike everywhere
        for part in processes.all_gather((self.count, self.mean, self.m2)):
            together._merge(*part)
        return together

    def _merge(self, count: torch.Tensor, mean: torch.Tensor, m2: torch.Tensor) -> None:
        """Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm", 1979."""
        total = (self.count + count).clamp(min=1)
        delta = mean - self.mean
        self.m2.add_(m2 + delta**2 * self.count * count / total)
        self.mean.add_(delta * count / total)
        self.count.add_(count)

    def statistics(self) -> Statistics:
        """Mean and standard deviation so far; before the first row those of a standard normal."""
        mean = self.mean.float()
        std = (self.m2 / self.count.clamp(min=1)).sqrt().float()
        return Statistics(mean, std if self.count > 0 else torch.ones_like(std), mean, mean)
