"""Registry of learning rate schedules.

    @register_schedule("square_root")
    def square_root(progress: float) -> float:       # 0 after the warmup, 1 at the last step
        return 1 - progress**0.5

A schedule is a function of the progress alone, so that a resumed run has no schedule state to restore.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from simscaleai.registry import Registry
from simscaleai.training.component_settings import ScheduleSettings

Schedule = Callable[[float], float]  # progress in [0, 1] -> factor of the learning rate

_schedules: Registry[Schedule] = Registry(
    "schedule",
    {name: f"simscaleai.training.schedules:{name}" for name in ("cosine", "linear", "constant")},
)


def register_schedule(name: str) -> Callable[[Schedule], Schedule]:
    """Return a decorator that gives a schedule a name; UserError if another one has it."""

    def register(schedule: Schedule) -> Schedule:
        _schedules.register(name, schedule)
        return schedule

    return register


def list_schedules() -> list[str]:
    """Return all names, sorted."""
    return _schedules.names()


def cosine(progress: float) -> float:
    """Return half a cosine from 1 to 0 (Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def linear(progress: float) -> float:
    """Return a straight line from 1 to 0."""
    return 1 - progress


def constant(progress: float) -> float:
    """Return 1 at any progress."""
    return 1.0


def effective_warmup(settings: ScheduleSettings, max_steps: int) -> int:
    """Return the steps of warmup: `warmup_steps`, or a tenth of a run that is not longer than those."""
    # Otherwise a first try of 200 steps, with the default warmup of 500, would never reach its learning rate.
    return settings.warmup_steps if settings.warmup_steps < max_steps else max_steps // 10


def learning_rate(settings: ScheduleSettings, lr: float, step: int, max_steps: int) -> float:
    """Return the learning rate of optimizer step `step`, counted from 0; `lr` is the peak."""
    schedule = _schedules.get(settings.name)
    warmup = effective_warmup(settings, max_steps)
    if step < warmup:  # linear, and above 0 at the first step
        return lr * (step + 1) / warmup
    progress = (step - warmup) / max(max_steps - warmup, 1)
    return lr * schedule(min(progress, 1.0))
