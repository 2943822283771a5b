"""The training loop: it knows no model, no task and no file of data.

    trainer = Trainer(model, loader, TrainConfig(max_steps=1000))
    metrics = trainer.train()        # {"loss": ..., "lr": ..., "samples_per_second": ..., ...}

A run stopped after any checkpoint and resumed from it continues, on a CPU, to the very same weights:
the checkpoint holds weights, optimizer, random states and the place in the data, and the learning rate
and the order of the data are functions of step and epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from simscaleai import __version__, seeding
from simscaleai.errors import UserError
from simscaleai.models.inference import inference, load_weights
from simscaleai.models.policy import describe
from simscaleai.storage import checkpoint
from simscaleai.training import random_state
from simscaleai.training.config import TrainConfig
from simscaleai.training.data.loader import BatchStream, batch_size, to_device
from simscaleai.training.folder import make_room
from simscaleai.training.report import Report, scalars

__all__ = ["TrainConfig", "Trainer"]


class Trainer:
    """Trains `model` in place.

    Args:
      model: `model(batch)` returns a dict with the scalar "loss"; further scalars are recorded.
      train_loader: its batches are dicts of tensors; each pass over it is an epoch.
      config: see `TrainConfig`; `resume_from` is loaded at once.
      eval_loader: batches for `evaluate`.
      eval_fn: called with the model by `evaluate`; returns a number, or a dict of them.
    """

    def __init__(
        self,
        model: nn.Module,
        train_loader: DataLoader[Any],
        config: TrainConfig,
        eval_loader: DataLoader[Any] | None = None,
        eval_fn: Callable[..., Any] | None = None,
    ) -> None:
        config.check()
        self.config = config
        self.device = torch.device(config.resolved_device)
        self.model = model.to(self.device)
        self.eval_loader, self.eval_fn = eval_loader, eval_fn
        self.stream = BatchStream(train_loader, config.seed)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.lr,
            weight_decay=config.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),  # one pass over memory, not ten
        )
        self._amp = config.uses_amp
        fp16 = self._amp and config.amp_torch_dtype is torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=fp16)
        self.folder = Path(config.checkpoint_dir).resolve()
        self.step = 0
        self.metrics: dict[str, float] = {}
        self._random_state: dict[str, Any] | None = None
        self._folder_is_ours = False
        if config.resume_from:
            self.load_checkpoint(config.resume_from)

    def train(self) -> dict[str, float]:
        """Train up to `max_steps`; return the last metrics, among them "loss" and "step".

        Raises:
          UserError: loss or gradient is not finite; the weights are those of the step before.
        """
        config = self.config
        report = Report(config, self.folder, self.step)
        aside = self._claim_folder()
        self._set_random_state()
        self.model.train()
        with report:
            if aside:
                report.say(f"Moved the files of an earlier run to {aside}.")
            if config.effective_warmup != config.warmup_steps:
                report.say(
                    f"Shortened the warmup of {config.warmup_steps} steps to"
                    f" {config.effective_warmup}: the run has {config.max_steps}."
                )
            batches = iter(self.stream)
            while self.step < config.max_steps:
                batch = to_device(next(batches), self.device)
                lr = config.learning_rate(self.step)
                outputs = self._update(batch, lr)
                self.step += 1
                report.collect(self.step, scalars(outputs), batch_size(batch))
                if self._due(config.log_every):
                    self.metrics |= report.write(self.step, lr)
                if self._due(config.eval_every) and (evaluation := self.evaluate()):
                    self.metrics |= evaluation
                    report.record(self.step, evaluation)
                    report.restart_clock()
                if self._due(config.save_every) and self.step < config.max_steps:
                    self.save_checkpoint(self.step)
                    report.restart_clock()
            path = self.save_checkpoint(self.step, is_final=True)
            report.say(f"Saved {path}.")
        return {**self.metrics, "step": float(self.step)}

    def evaluate(self) -> dict[str, float]:
        """Means over `eval_loader` as "eval_<name>", and what `eval_fn(model)` returns.

        Layers run in evaluation mode, and the random state is afterwards as it was before: evaluating
        more or less often does not change the training.
        """
        totals: dict[str, torch.Tensor] = {}
        samples = 0
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), inference(self.model):
            for batch in self.eval_loader or ():
                batch = to_device(batch, self.device)
                n = batch_size(batch)
                with self._autocast():
                    outputs = scalars(self.model(batch))
                for key, value in outputs.items():
                    totals[key] = totals.get(key, 0.0) + value.double() * n
                samples += n
            result = {f"eval_{k}": (v / samples).item() for k, v in totals.items()}
            if self.eval_fn is not None:
                extra = self.eval_fn(self.model)
                extra = extra if isinstance(extra, dict) else {"eval_score": extra}
                result |= {k: float(v) for k, v in extra.items()}
        return result

    def save_checkpoint(self, step: int, is_final: bool = False) -> Path:
        """Write `step_<step>.pt`, or `final.pt`, into the run's folder; return its path."""
        self._claim_folder()
        about = describe(self.model) or {
            "model_name": self.config.model_name,
            "model_kwargs": self.config.model_kwargs,
        }
        payload = {
            "kind": "policy",
            "simscaleai_version": __version__,
            "policy": about,
            "weights": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": step,
            "data": {"epoch": self.stream.epoch, "position": self.stream.position},
            "random": random_state.capture(),
            "config": asdict(self.config),
            "metrics": dict(self.metrics),
        }
        name = "final.pt" if is_final else f"step_{step}.pt"
        return checkpoint.save_checkpoint(self.folder / name, payload)

    def load_checkpoint(self, path: str) -> None:
        """Continue from a checkpoint: weights, optimizer, step, place in the data, random state.

        Raises:
          UserError: it cannot be read, holds no training state, or its weights do not fit the model.
        """
        payload = checkpoint.load_checkpoint(path)
        missing = [
            k for k in ("weights", "optimizer", "step", "data", "random") if k not in payload
        ]
        if missing:
            raise UserError(
                f"The checkpoint {path!r} cannot be resumed: it lacks {', '.join(missing)}."
            )
        load_weights(self.model, payload["weights"], str(path))
        self.optimizer.load_state_dict(deepcopy(payload["optimizer"]))  # not mapped from the file
        self.scaler.load_state_dict(payload["scaler"])
        self.step = payload["step"]
        self.stream.epoch, self.stream.position = (
            payload["data"]["epoch"],
            payload["data"]["position"],
        )
        self.metrics = dict(payload["metrics"])
        self._random_state = deepcopy(payload["random"])
        self._folder_is_ours = Path(path).resolve().parent == self.folder

    def _update(self, batch: dict[str, Any], lr: float) -> dict[str, Any]:
        """One optimizer step; the model's outputs."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with self._autocast():
            outputs = self.model(batch)
        loss = outputs["loss"]
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients, foreach=self.device.type == "cpu" or None)
        size = self._finite(loss, norm)
        if 0 < self.config.grad_clip < size:
            nn.utils.clip_grads_with_norm_(self.parameters, self.config.grad_clip, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return outputs

    def _finite(self, loss: torch.Tensor, norm: torch.Tensor) -> float:
        """The norm as a number; UserError unless it and the loss are finite."""
        size = norm.item()
        by_scaling = self.scaler.is_enabled() and not math.isfinite(size)  # the scaler will skip it
        if math.isfinite(loss.item()) and (math.isfinite(size) or by_scaling):
            return size
        raise UserError(
            f"At step {self.step + 1} the loss is {loss.item():.4g} and the norm of its gradient"
            f" {size:.4g}: stopped before the update; look for extreme values in the data"
            " (`simscale validate`) or lower lr."
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        if not self._amp:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.config.amp_torch_dtype)

    def _due(self, every: int) -> bool:
        return every > 0 and (self.step % every == 0 or self.step == self.config.max_steps)

    def _set_random_state(self) -> None:
        """That of the checkpoint, or that of the seed."""
        if self._random_state is not None:
            random_state.restore(self._random_state)
            self._random_state = None
        elif self.step == 0:
            torch.manual_seed(seeding.derive_seed(self.config.seed, "training"))

    def _claim_folder(self) -> Path | None:
        """Once, before the first file: move what an earlier run left there; return where to."""
        aside = None if self._folder_is_ours else make_room(self.folder)
        self._folder_is_ours = True
        return aside
