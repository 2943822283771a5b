"""A moving average of the weights, which is steadier than any of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from simscaleai.training.parallel_model import local


class Ema:
    """average <- d * average + (1 - d) * weights after every step.

    d is `decay`, and less during the first steps, (1 + step) / (10 + step), so that the initial weights are
    forgotten however long the average is.

    Attributes:
      averages: one for each of the parameters, distributed as it is.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.averages = [p.detach().clone() for p in parameters]

    def update(self, step: int) -> None:
        """Take in the weights after update number `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        weights = [local(p.detach()) for p in self.parameters]
        torch._foreach_lerp_([local(a) for a in self.averages], weights, 1 - decay)

    @contextmanager
    def in_place_of_weights(self) -> Iterator[None]:
        """The parameters hold the averages inside, and their own values after."""
        own = [local(p.detach()).clone() for p in self.parameters]
        try:
            self._fill(self.averages)
            yield
        finally:
            self._fill(own)

    @torch.no_grad()
    def _fill(self, values: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            local(parameter.detach()).copy_(local(value))
