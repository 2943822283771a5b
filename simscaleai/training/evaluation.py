"""Evaluation in the middle of training, which leaves the training as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.data import DataLoader

from simscaleai.convert import convert
from simscaleai.errors import unknown_name
from simscaleai.models.inference import inference
from simscaleai.stopping import StopSignals
from simscaleai.training import rng_state
from simscaleai.training.data.loader import to_device
from simscaleai.training.data.stream import BatchStream
from simscaleai.training.optimizer_step import OptimizerStep
from simscaleai.training.report import scalars

# What decides which evaluation was the best, where the settings do not say: the first that there is.
METRICS = ("eval_success_rate", "success_rate", "eval_score", "eval_loss")
_LESS_IS_BETTER = ("loss", "error", "mse", "mae", "distance")


class Check(Protocol):
    """What a run measures at each evaluation besides the loss, and warns of."""

    def __call__(self, model: Any, /) -> dict[str, float]:
        """Return numbers to record."""

    def warning(self, step: int, max_steps: int, numbers: Mapping[str, float]) -> str | None:
        """Return a sentence for the user about an evaluation's numbers; None for nothing to say."""


def evaluate(
    optimizer_step: OptimizerStep,
    loader: DataLoader[Any] | None,
    functions: Sequence[Callable[..., Any]],
    stop: StopSignals,
) -> dict[str, float]:
    """Means over `loader` as "eval_<name>", and what `function(model)` returns for each of `functions`.

    Every process goes through its part of the loader; the functions are called on the main process, and the
    others wait for their results.

    Returns:
      numbers, the same in all processes; none if a signal to stop came meanwhile.
    """
    model, processes = optimizer_step.model, optimizer_step.processes
    weights = optimizer_step.ema.in_place_of_weights() if optimizer_step.ema else nullcontext()
    result: dict[str, float] | None = {}
    with rng_state.kept(optimizer_step.device), inference(model.model), weights:
        model.reshard()
        if loader is not None:
            result = _over_batches(optimizer_step, loader, stop)
        if functions and result is not None:
            with model.on_main(processes) as callable_alone:
                found = None
                if callable_alone is not None:
                    found = stop.attempt(lambda: _call_all(functions, callable_alone))
            extra = processes.broadcast(found)
            result = None if extra is None else result | extra
        model.reshard()
    return result or {}


def _over_batches(
    optimizer_step: OptimizerStep, loader: DataLoader[Any], stop: StopSignals
) -> dict[str, float] | None:
    processes = optimizer_step.processes
    totals: dict[str, torch.Tensor] = {}
    samples: dict[str, int] = {}  # of the batches that gave the number
    with BatchStream(loader, optimizer_step.settings.seed, processes) as stream:
        for local in stream.rest_of_epoch():
            if (
                stop.requested and processes.size == 1
            ):  # of several, none may leave the others alone
                return None
            with optimizer_step.autocast():
                outputs = optimizer_step.model.model(to_device(local.batch, optimizer_step.device))
            for key, value in scalars(outputs).items():
                totals[key] = totals.get(key, 0.0) + value.float() * local.samples
                samples[key] = samples.get(key, 0) + local.total
    if not totals:
        return {}
    sums = processes.all_reduce(torch.stack(list(totals.values()))).tolist()
    return {f"eval_{key}": total / samples[key] for key, total in zip(totals, sums, strict=True)}


def _call_all(functions: Sequence[Callable[..., Any]], model: nn.Module) -> dict[str, float]:
    """Return the numbers of all functions of the model together."""
    found: dict[str, float] = {}
    for function in functions:
        found |= _numbers(function(model))
    return found


def _numbers(found: Any) -> dict[str, float]:
    found = found if isinstance(found, dict) else {"eval_score": found}
    return {key: convert(value, float, f"eval_fn's {key!r}") for key, value in found.items()}


def best_metric(wanted: str, evaluation: dict[str, float]) -> str | None:
    """Which number of an evaluation decides whether it was the best one; None if none can.

    Raises:
      UserError: the one that is wanted is not among them.
    """
    if wanted and evaluation and wanted not in evaluation:
        raise unknown_name("best_metric", wanted, evaluation)
    names = [wanted] if wanted else METRICS
    return next((name for name in names if name in evaluation), None)


def is_better(metric: str, value: float, before: float | None) -> bool:
    """Whether a value of a metric is better than the best one before, if there was one."""
    if value != value:
        return False
    if before is None:
        return True
    return value < before if any(w in metric for w in _LESS_IS_BETTER) else value > before
