"""Evaluation during training; it does not change the course of the training."""

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

# Metrics that may select the best checkpoint by default: the first of them that an evaluation has.
METRICS = ("eval_success_rate", "success_rate", "eval_score", "eval_loss")
_LESS_IS_BETTER = ("loss", "error", "mse", "mae", "distance")  # in the name of a metric

EvalFunction = Callable[..., object]
"""Called with the model; returns a number, or {name: number}."""


class Check(Protocol):
    """A measurement at each evaluation of a run, which may warn the user."""

    def __call__(self, model: Any, /) -> dict[str, float]:
        """Return numbers to log."""

    def warning(self, step: int, max_steps: int, numbers: Mapping[str, float]) -> str | None:
        """Return a sentence for the user about an evaluation's numbers; None for nothing to say."""


def evaluate(
    optimizer_step: OptimizerStep,
    loader: DataLoader[object] | None,
    functions: Sequence[EvalFunction],
    stop: StopSignals,
) -> dict[str, float]:
    """Return the means over `loader` as "eval_<name>", and the numbers that each `function(model)` returns.

    Every process iterates over its part of the loader. The functions are called on the main process, and
    their results are broadcast.

    Returns:
      {name: number}, the same in all processes; empty if a signal to stop came meanwhile.
    """
    model, processes = optimizer_step.model, optimizer_step.processes
    weights = optimizer_step.ema.in_place_of_weights() if optimizer_step.ema else nullcontext()
    result: dict[str, float] | None = {}
    with rng_state.preserved(optimizer_step.device), inference(model.model), weights:
        # The weights have just been replaced by their averages: FSDP2 has to gather them again.
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
    optimizer_step: OptimizerStep, loader: DataLoader[object], stop: StopSignals
) -> dict[str, float] | None:
    """Return the mean of every scalar output over the samples of `loader`; None if stopped."""
    processes = optimizer_step.processes
    totals: dict[str, torch.Tensor] = {}
    samples: dict[str, int] = {}  # number of samples in the batches that had the scalar
    with BatchStream(loader, optimizer_step.settings.seed, processes) as stream:
        for local in stream.rest_of_epoch():
            # With several processes, one that left would block the others in the all-reduce.
            if stop.requested and processes.size == 1:
                return None
            with optimizer_step.autocast():
                outputs = optimizer_step.model.model(to_device(local.batch, optimizer_step.device))
            for key, value in scalars(outputs).items():
                # Weighted by samples, since the last batch is smaller; `total` counts all processes.
                totals[key] = totals.get(key, 0.0) + value.float() * local.samples
                samples[key] = samples.get(key, 0) + local.total
    if not totals:
        return {}
    sums = processes.all_reduce(torch.stack(list(totals.values()))).tolist()
    return {f"eval_{key}": total / samples[key] for key, total in zip(totals, sums, strict=True)}


def _call_all(functions: Sequence[EvalFunction], model: nn.Module) -> dict[str, float]:
    """Return the numbers of all functions of the model together."""
    found: dict[str, float] = {}
    for function in functions:
        found |= _numbers(function(model))
    return found


def _numbers(found: object) -> dict[str, float]:
    found = found if isinstance(found, dict) else {"eval_score": found}
    return {key: convert(value, float, f"eval_fn's {key!r}") for key, value in found.items()}


def best_metric(wanted: str, evaluation: dict[str, float]) -> str | None:
    """Return the name of the metric that selects the best checkpoint; None if the evaluation has none.

    Raises:
      UserError: the metric `wanted` is not in the evaluation.
    """
    if wanted and evaluation and wanted not in evaluation:
        raise unknown_name("best_metric", wanted, evaluation)
    names = [wanted] if wanted else METRICS
    return next((name for name in names if name in evaluation), None)


def is_better(metric: str, value: float, before: float | None) -> bool:
    """Return whether `value` is better than the best value so far, `before`; None for the first."""
    if value != value:  # NaN is never the best
        return False
    if before is None:
        return True
    return value < before if any(w in metric for w in _LESS_IS_BETTER) else value > before
