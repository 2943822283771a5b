"""One optimizer step, by any number of processes, with gradient accumulation.

    batch_size = processes x accumulate x micro_batch_size

The loss is the mean over all samples of the batch, in whatever process they are: each micro-batch is weighted
by its number of samples, so that the loss curve does not depend on the number of processes.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from simscaleai.distributed import COMMAND, Processes
from simscaleai.errors import UserError
from simscaleai.training.data.loader import to_device
from simscaleai.training.data.stream import LocalBatch
from simscaleai.training.ema import Ema
from simscaleai.training.optimizers import make_optimizer
from simscaleai.training.parallel_model import ParallelModel
from simscaleai.training.report import scalars
from simscaleai.training.run_config import RunConfig
from simscaleai.training.schedules import learning_rate


class OptimizerStep:
    """Forward, backward, gradient clipping, optimizer and moving average.

    Args:
      model: the model, on `device`.
      settings, processes, device: those of the run.
      micro_batch_size: samples of one forward and backward pass.

    Attributes:
      optimizer: the optimizer.
      scaler: the gradient scaler, which does nothing except in float16.
      parameters: all trained parameters, in the optimizer's order.
      ema: the moving average, or None.
      all_stop: whether any process asked to stop in the last step; the same in all processes.
    """

    def __init__(
        self,
        model: ParallelModel,
        settings: RunConfig,
        processes: Processes,
        device: torch.device,
        micro_batch_size: int,
    ) -> None:
        self.model, self.settings, self.processes, self.device = model, settings, processes, device
        self.optimizer = make_optimizer(settings.optimizer, model.model)
        groups = self.optimizer.param_groups
        self.parameters = [p for group in groups for p in group["params"]]
        self._peaks = [group["lr"] for group in groups]  # learning rates that the schedule scales
        decay = settings.trainer.ema_decay
        self.ema = Ema(self.parameters, decay) if decay else None
        hardware = settings.hardware
        self._amp_dtype = hardware.amp_torch_dtype if hardware.uses_amp else None
        # bfloat16 has the range of float32, and needs no scaling.
        fp16 = self._amp_dtype is torch.float16
        self.scaler = torch.amp.GradScaler(device.type, enabled=fp16)
        self.micro_batch_size = micro_batch_size
        self.all_stop = False

    def autocast(self) -> AbstractContextManager[object]:
        """Return a context of mixed precision, or one that does nothing if it is not used."""
        if self._amp_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._amp_dtype)

    def set_learning_rates(self, step: int) -> float:
        """Set the learning rates of all groups for step `step`, counted from 0.

        Returns:
          the scheduled value of the settings' `lr`, which is that of every group without an own one.
        """
        schedule, last = self.settings.schedule, self.settings.trainer.max_steps
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = learning_rate(schedule, peak, step, last)
        return learning_rate(schedule, self.settings.optimizer.lr, step, last)

    def step(self, batch: LocalBatch, number: int, stop: bool = False) -> dict[str, torch.Tensor]:
        """Make one step with the learning rates that are set.

        Args:
          batch: the local batch of this process.
          number: number of the step, counted from 1.
          stop: whether this process asks all of them to stop after this step.

        Returns:
          the model's scalars, weighted so that their mean over processes is the mean over samples, and
          "grad_norm", the norm of the gradient before clipping.

        Raises:
          UserError: loss or gradient is not finite; raised in all processes, before any weight has changed.
        """
        outputs = self._backward(batch)
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        # On a CPU one kernel for all gradients, also for DTensors, which `None` takes one by one.
        norm = nn.utils.get_total_norm(gradients, foreach=self.device.type == "cpu" or None)  # ()
        if hasattr(
            norm, "full_tensor"
        ):  # under FSDP2 a DTensor: the norm over the shards of all processes
            norm = norm.full_tensor()
        size = self._check_finite(number, outputs["loss"], norm, stop)
        largest = self.settings.optimizer.grad_clip
        if 0 < largest < size:  # scale all gradients by largest / norm
            nn.utils.clip_grads_with_norm_(self.parameters, largest, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(number)
        return {**outputs, "grad_norm": norm}

    def _backward(self, batch: LocalBatch) -> dict[str, torch.Tensor]:
        """Accumulate the gradients of the mean loss over the micro-batches; return the weighted scalars."""
        size = self.processes.size
        micro_batches = list(batch.micro_batches(self.micro_batch_size, size))
        totals: dict[str, torch.Tensor] = {}
        for i, (inputs, samples) in enumerate(micro_batches):
            # DDP and FSDP2 average gradients over processes; the factor `size` turns the average into a sum.
            weight = samples * size / batch.total
            with self.model.micro_batch(last=i == len(micro_batches) - 1):
                with self.autocast():
                    outputs = self.model(to_device(inputs, self.device))
                loss = outputs["loss"]
                # A weight of exactly 1, the common case, needs no node in the graph.
                self.scaler.scale(loss if weight == 1 else loss * weight).backward()
            for key, value in scalars(outputs).items():
                weighted = value if weight == 1 else value * weight
                totals[key] = totals[key] + weighted if key in totals else weighted
        return totals

    def _check_finite(
        self, number: int, loss: torch.Tensor, norm: torch.Tensor, stop: bool
    ) -> float:
        """Return the norm as a number; the only place of a step that waits for the GPU.

        Raises:
          UserError: the norm or the loss is not finite.
        """
        values = [norm, loss]
        if self.processes.size > 1:
            # One all-reduce for both: the mean loss, and whether any process asks to stop.
            reduced = self.processes.all_reduce_mean(
                torch.stack([loss, loss.new_tensor(float(stop))])
            )
            values = [norm, *reduced]
        size, mean_loss, *stops = torch.stack([v.float() for v in values]).tolist()
        self.all_stop = any(stops)
        # In float16 an infinite norm may mean only that the loss was scaled too far: the scaler then skips
        # the step and lowers its scale.
        overflow = self.scaler.is_enabled() and not math.isfinite(size)
        if math.isfinite(mean_loss) and (math.isfinite(size) or overflow):
            return size
        raise UserError(
            f"At step {number} the loss is {mean_loss:.4g} and the norm of its gradient"
            f" {size:.4g}: stopped before the update; look for extreme values in the data"
            " (`simscale validate`) or lower lr."
        )


def micro_batch_size_of(settings: RunConfig, processes: Processes) -> int:
    """Return the samples of one forward and backward pass.

    Raises:
      UserError: the batch cannot be divided into equal micro-batches, or the process was not started by
        torchrun although the settings demand it.
    """
    if settings.hardware.distributed and not processes.launched:
        raise UserError(
            "distributed is true, and this process was not started by torchrun; start it with:"
            f" {COMMAND}"
        )
    batch_size, accumulate = settings.trainer.batch_size, settings.trainer.accumulate
    count = processes.size * accumulate
    if batch_size % count:
        raise UserError(
            f"batch_size is {batch_size}, and {processes.size} processes with accumulate"
            f" {accumulate} need a multiple of {count}; it is the number of samples of one step"
            " of all processes together."
        )
    return batch_size // count
