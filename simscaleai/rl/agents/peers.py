"""Several processes that learn together: same weights, own environments.

Started by `torchrun`, each process collects its own rollouts; gradients are averaged at every step and
running statistics are put together after every rollout, so that all of them stay the same agent. In a
single process every function here leaves things as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn

from simscaleai.rl.agents.moments import RunningMoments


def world_size() -> int:
    """How many processes learn together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Join the processes that `torchrun` started, if it did, for the time of the block."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their means over the processes, in one message."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def mean(value: float) -> float:
    """The mean of a number over the processes."""
    if world_size() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=_device())
    dist.all_reduce(total)
    return total.item() / world_size()


def any_of(flag: bool) -> bool:
    """Whether the flag is up in any of the processes."""
    return mean(float(flag)) > 0


def merged(own: RunningMoments) -> RunningMoments:
    """What all processes have seen together, the same in each."""
    if world_size() == 1:
        return own
    packed = torch.cat([own.count[None], own.mean, own.m2]).to(_device())
    parts = [torch.empty_like(packed) for _ in range(world_size())]
    dist.all_gather(parts, packed)
    together = RunningMoments(len(own.mean))
    for part in parts:  # in the order of ranks, and so rounded alike everywhere
        other = RunningMoments(len(own.mean))
        other.count, other.mean, other.m2 = (
            x.clone() for x in part.cpu().split([1, len(own.mean), len(own.mean)])
        )
        other.count = other.count[0]
        together.merge(other)
    return together


def _device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
