"""One optimizer step, by however many processes and with gradient accumulation."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from simscaleai.distributed import COMMAND, Processes
from simscaleai.errors import UserError
from simscaleai.training.config import TrainConfig
from simscaleai.training.data.loader import to_device
from simscaleai.training.data.stream import LocalBatch
from simscaleai.training.ema import Ema
from simscaleai.training.parallel_model import ParallelModel
from simscaleai.training.report import scalars


class OptimizerStep:
    """AdamW on the mean loss over all samples of a batch, wherever they lie.

    Args:
      model: on `device`.
      config, processes, device: of the run.
      micro_batch_size: samples that a process takes at once.

    Attributes:
      optimizer, scaler: the scaler does nothing except in float16.
      ema: the moving average, or None.
      all_stop: whether some process wished to stop in the last update; all of them know it.
    """

    def __init__(
        self,
        model: ParallelModel,
        config: TrainConfig,
        processes: Processes,
        device: torch.device,
        micro_batch_size: int,
    ) -> None:
        self.model, self.config, self.processes, self.device = model, config, processes, device
        self.parameters = [p for p in model.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.lr,
            weight_decay=config.weight_decay,
            fused=device.type in ("cpu", "cuda"),  # one pass over memory, not ten
        )
        self.ema = Ema(self.parameters, config.ema_decay) if config.ema_decay else None
        self._amp_dtype = config.amp_torch_dtype if config.uses_amp else None
        fp16 = self._amp_dtype is torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=fp16)
        self.micro_batch_size = micro_batch_size
        self.all_stop = False

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision, where it is used."""
        if self._amp_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._amp_dtype)

    def step(
        self, batch: LocalBatch, number: int, lr: float, stop: bool = False
    ) -> dict[str, torch.Tensor]:
        """Update number `number`, counted from 1.

        Args:
          batch: this process's part of the batch.
          number: of the update, counted from 1.
          lr: of this update.
          stop: whether this process wishes that all stop after it.

        Returns:
          the model's scalars, as numbers of which the mean over processes is that over samples, and
          "grad_norm" before clipping.

        Raises:
          UserError: loss or gradient is not finite, in all processes at once; nothing has been updated.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        outputs = self._backward(batch)
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm: Any = nn.utils.get_total_norm(gradients, foreach=self.device.type == "cpu" or None)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        size = self._finite(number, outputs["loss"], norm, stop)
        if 0 < self.config.grad_clip < size:
            nn.utils.clip_grads_with_norm_(self.parameters, self.config.grad_clip, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(number)
        return {**outputs, "grad_norm": norm}

    def _backward(self, batch: LocalBatch) -> dict[str, torch.Tensor]:
        """Gradients of the mean loss, by one piece of the batch after the other; weighted scalars."""
        size = self.processes.size
        micro_batches = list(batch.micro_batches(self.micro_batch_size, size))
        totals: dict[str, torch.Tensor] = {}
        for i, (part, samples) in enumerate(micro_batches):
            weight = samples * size / batch.total  # gradients are means over the processes
            with self.model.micro_batch(last=i == len(micro_batches) - 1):
                with self.autocast():
                    outputs = self.model(to_device(part, self.device))
                loss = outputs["loss"]
                self.scaler.scale(loss if weight == 1 else loss * weight).backward()
            for key, value in scalars(outputs).items():
                weighted = value if weight == 1 else value * weight
                totals[key] = totals[key] + weighted if key in totals else weighted
        return totals

    def _finite(self, number: int, loss: torch.Tensor, norm: torch.Tensor, stop: bool) -> float:
        """The norm as a number, if it and the loss are finite; the one place that waits for the device."""
        told = [norm, loss]
        if self.processes.size > 1:
            told = [
                norm,
                *self.processes.all_reduce_mean(torch.stack([loss, loss.new_tensor(float(stop))])),
            ]
        size, mean_loss, *wishes = torch.stack([t.float() for t in told]).tolist()
        self.all_stop = any(wishes)
        by_scaling = self.scaler.is_enabled() and not math.isfinite(size)  # the scaler will skip it
        if math.isfinite(mean_loss) and (math.isfinite(size) or by_scaling):
            return size
        raise UserError(
            f"At step {number} the loss is {mean_loss:.4g} and the norm of its gradient"
            f" {size:.4g}: stopped before the update; look for extreme values in the data"
            " (`simscale validate`) or lower lr."
        )


def micro_batch_size_of(config: TrainConfig, processes: Processes) -> int:
    """Samples that a process takes at once.

    Raises:
      UserError: the batch cannot be divided into equal micro-batches, or torchrun is missing.
    """
    if config.distributed and not processes.launched:
        raise UserError(
            "distributed is true, and this process was not started by torchrun; start it with:"
            f" {COMMAND}"
        )
    count = processes.size * config.accumulate
    if config.batch_size % count:
        raise UserError(
            f"batch_size is {config.batch_size}, and {processes.size} processes with accumulate"
            f" {config.accumulate} need a multiple of {count}; it is the number of samples of one step"
            " of all processes together."
        )
    return config.batch_size // count
