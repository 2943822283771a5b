"""Exponential moving average (EMA) of the weights, which varies less from step to step than the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from simscaleai.training.parallel_model import local


class Ema:
    """Moving average that is updated after every step: average <- d * average + (1 - d) * weights.

    d is min(decay, (1 + step) / (10 + step)), the warmup of TensorFlow's ExponentialMovingAverage: without
    it, an average with a decay of 0.9999 would consist of the initial weights for the first 10,000 steps.

    Attributes:
      averages: one tensor for each parameter, sharded as the parameter is.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.averages = [p.detach().clone() for p in parameters]

    def update(self, step: int) -> None:
        """Update the averages with the weights after optimizer step number `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        weights = [local(p.detach()) for p in self.parameters]
        # One fused kernel for all parameters, in place of one launch for each.
        torch._foreach_lerp_([local(a) for a in self.averages], weights, 1 - decay)

    @contextmanager
    def in_place_of_weights(self) -> Iterator[None]:
        """Put the averages in place of the parameters' values, and restore these when the block is left."""
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
