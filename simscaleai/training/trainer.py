"""Training loop for any model and any loader of batches.

    trainer = Trainer(model, loader, TrainConfig(max_steps=1000))
    metrics = trainer.train()        # {"loss": ..., "lr": ..., "samples_per_second": ..., ...}

The same program trains in one process or, started by `torchrun`, in several. `batch_size` counts the samples
of all processes, so that the loss curve does not depend on their number. Every process makes the same calls.

On a CPU, a run that is resumed from a checkpoint ends with bit for bit the same weights as an uninterrupted
run: the checkpoint holds weights, optimizer state, RNG states and the position in the data, and learning rate
and data order are functions of step and epoch. With another number of processes dropout draws other numbers,
and with three or more processes sums of gradients may be rounded in another order.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from simscaleai import __version__, seeding
from simscaleai.convert import plain
from simscaleai.distributed import Processes
from simscaleai.errors import UserError
from simscaleai.guards import guarded
from simscaleai.json_types import JsonDict
from simscaleai.models.policy import describe
from simscaleai.stopping import Stopped
from simscaleai.storage import checkpoint
from simscaleai.storage.find_checkpoint import find_checkpoint
from simscaleai.tensor_types import StateDict
from simscaleai.tracking.checkpoints import BEST, FINAL
from simscaleai.tracking.run import Run
from simscaleai.training import compatibility, evaluate_model, rng_state
from simscaleai.training.data.stream import BatchStream
from simscaleai.training.evaluate_model import EvalFunction
from simscaleai.training.optimizer_step import OptimizerStep, micro_batch_size_of
from simscaleai.training.optimizers import slot_shapes
from simscaleai.training.parallel_model import ParallelModel, full_state_dict
from simscaleai.training.report import Report
from simscaleai.training.run_config import RunConfig
from simscaleai.training.schedules import effective_warmup
from simscaleai.training.train_config import TrainConfig
from simscaleai.training.training_state import KINDS, TrainingState

__all__ = ["TrainConfig", "Trainer"]


class Trainer:
    """Trains `model` in place.

    Args:
      model: `model(batch)` returns a dict with the scalar "loss", a mean over the samples of the batch; other
        scalars in it are logged.
      train_loader: loader of batches, for example dicts of tensors; one pass over it is an epoch. With
        several processes, each has a loader that `make_loader` made for its rank, or all have the same loader
        of whole batches.
      config: see `TrainConfig`; `resume_from` is loaded by the constructor.
      eval_loader: loader of batches for `evaluate`.
      eval_fn: called with the model by `evaluate`, on the main process; returns a number or {name: number}.

    Attributes:
      checks: further measurements at each evaluation, which may warn; empty unless set.
      model: the given model; under FSDP2 its parameters are DTensors.
      step: number of optimizer steps done.
      processes: the number of this process, and of how many.
      folder: the run's folder.
    """

    def __init__(
        self,
        model: nn.Module,
        train_loader: DataLoader[object],
        config: TrainConfig,
        eval_loader: DataLoader[object] | None = None,
        eval_fn: EvalFunction | None = None,
    ) -> None:
        config.check()
        self.config, self.model = config, model
        self.settings = settings = RunConfig.of(config)
        # Hours later it would be too late to learn that a setting cannot be saved.
        checkpoint.require_storable(self._about())
        self.eval_loader, self.eval_fn = eval_loader, eval_fn
        self.checks: list[evaluate_model.Check] = []
        self.processes = Processes.from_environment()
        # Before the process group is started, since it may raise.
        micro_batch_size = micro_batch_size_of(settings, self.processes)
        hardware = settings.hardware
        self.device = self.processes.join(hardware.resolved_device, hardware.backend)
        self.stream = BatchStream(train_loader, config.seed, self.processes)
        parallel = ParallelModel(model, hardware, self.processes, self.device)
        self.optimizer_step = OptimizerStep(
            parallel, settings, self.processes, self.device, micro_batch_size
        )
        self.optimizer = self.optimizer_step.optimizer
        self.state = TrainingState(
            model, self.optimizer, slot_shapes(settings.optimizer), self.optimizer_step.ema
        )
        self.folder = config.run_folder.resolve()
        self.run = Run(
            self.folder,
            self.processes,
            checkpoint_folder=config.checkpoint_folder.resolve(),
            keep=settings.checkpoints.keep,
        )
        self.step = 0
        self.metrics: dict[str, float] = {}
        self.best: JsonDict = {}  # "metric", "value" and "step" of the best evaluation so far
        self._rng_state: StateDict | None = None  # of a checkpoint, until training starts
        self._warnings: list[str] = []  # printed even if no progress is shown
        with self.run.lock.released_on_error():
            self._resume()

    def train(self) -> dict[str, float]:
        """Train up to `max_steps`; return the last metrics, among them "loss" and "step".

        Raises:
          UserError: loss or gradient is not finite (the weights are then those of the previous step), or
            another run is writing to the folder.
          CannotWriteError: a file could not be written, for example to a full disk; the error names the
            checkpoint to resume from.
          Stopped: a signal came; the step was finished and saved. Uncaught, it ends the program.
        """
        with self.run.at_work():
            self.run.archive_earlier(self.step)
            return self._train()

    def _train(self) -> dict[str, float]:
        config, processes = self.config, self.processes
        report = Report(
            self.settings,
            self.folder,
            self.step,
            processes.size,
            processes.is_main,
            processes.all_reduce_mean,
        )
        # As late as possible: building and loading draw random numbers too.
        self._set_rng_state()
        self.model.train()
        with report, self.run.stop, self.stream:
            self._announce(report)
            batches = iter(self.stream)
            while self.step < config.max_steps and not self._stopping:
                asked = time.perf_counter()
                local = next(batches)
                waited = time.perf_counter() - asked  # near 0 if loading is fast enough
                lr = self.optimizer_step.set_learning_rates(self.step)
                stop = self.run.stop.requested is not None
                outputs = self.optimizer_step.step(local, self.step + 1, stop)
                self.step += 1
                report.collect(self.step, outputs, local.samples, waited)
                if self._due(config.log_every):
                    self.metrics |= report.write(self.step, lr)
                if self._due(config.eval_every) and not self._stopping:
                    self._evaluate_into(report)
                    report.restart_clock()
                # The last step is saved as `final.pt` by `_finish`.
                if self._due(config.save_every) and self.step < config.max_steps:
                    self.save_checkpoint(self.step)
                    report.restart_clock()
            self._finish(report)
        return {**self.metrics, "step": float(self.step)}

    def evaluate(self) -> dict[str, float]:
        """Return means over `eval_loader` as "eval_<name>", and the numbers that `eval_fn(model)` returns.

        The model is in evaluation mode, with the moving average as its weights if there is one. RNG states
        are restored afterwards, so that evaluating more or less often does not change the training.
        """
        functions = [f for f in (self.eval_fn, *self.checks) if f is not None]
        return evaluate_model.evaluate(
            self.optimizer_step, self.eval_loader, functions, self.run.stop
        )

    def save_checkpoint(self, step: int, is_final: bool = False) -> Path:
        """Write `step_<step>.pt` (under FSDP2 a folder), or `final.pt`; return its path."""
        with self.run.lock.held():
            return self._save(step, is_final)

    def _save(self, step: int, is_final: bool) -> Path:
        name = f"step_{step}" + ("" if self.optimizer_step.model.sharded else ".pt")
        path = self._write(FINAL if is_final else name, step)
        if self.processes.is_main:
            self.run.checkpoints.written(path)
        self.processes.barrier()
        self.run.saved = (step, path)
        return path

    def load_checkpoint(self, path: str) -> None:
        """Resume from a checkpoint: weights, optimizer state, step, position in the data, RNG states.

        Raises:
          UserError: it cannot be read, has no training state, or does not fit this run; the error names every
            difference, and nothing has been changed.
        """
        found = find_checkpoint(path, resume=True)
        with guarded(f"The checkpoint {path!r}", "use another checkpoint of the run"):
            payload = self._load(found, path)
            others = compatibility.other_settings(payload["config"], asdict(self.config))
        self.run.resume(found, self.step)
        if others:
            self._warnings.append(f"Other settings than in {path}: {', '.join(others)}.")

    def _load(self, found: Path, path: str) -> StateDict:
        # Under FSDP2 each process reads its own shards; any other checkpoint is read as a whole.
        reads_shards = found.is_dir() and self.optimizer_step.model.sharded
        if reads_shards:
            payload, shards = checkpoint.load_sharded_checkpoint(found)
            shapes = {tuple(k.split("/")): e.shape for k, e in shards.entries.items()}
        else:
            payload = checkpoint.load_checkpoint(found)
            shapes = dict(compatibility.shapes_in({k: payload[k] for k in KINDS if k in payload}))
        self._compare_data(payload.get("dataset"), path)
        own, settings = self.state.shapes(), asdict(self.config)
        compatibility.check_compatible(
            payload, shapes, own, self._description(), str(path), settings
        )
        # Everything has been compared: from here on nothing is refused.
        if reads_shards:
            self.state.load_shards(shards)
        else:
            self.state.load(payload)
        scaler = self.optimizer_step.scaler
        if scaler.is_enabled() and payload["scaler"]:
            scaler.load_state_dict(payload["scaler"])
        self.step = payload["step"]
        self.stream.epoch = payload["data"]["epoch"]
        self.stream.position = payload["data"]["position"]
        self.metrics, self.best = dict(payload["metrics"]), dict(payload["best"])
        # RNG states are one for each process; another number of processes starts from new ones.
        states = payload["random"]
        alike = len(states) == self.processes.size
        self._rng_state = states[self.processes.rank] if alike else None
        return payload

    def _compare_data(self, saved: object, path: str) -> None:
        """Raise UserError if the dataset's file has changed; warn if the dataset is another file."""
        own = self._identity()
        found = compatibility.data_differences(saved, own)
        if not found:
            return
        text = f"The data are not those that {path!r} was trained on: {'; '.join(found)}."
        # Another path is intended, such as more demonstrations; other contents of the same path are not.
        if isinstance(saved, Mapping) and saved.get("path") == own["path"]:
            raise UserError(
                f"{text} {own['path']} has changed: restore it, start a new run, or give the new data"
                " another path to resume with them."
            )
        self._warnings.append(text)

    def _identity(self) -> JsonDict:
        """Return the identity of the training data; {} for a dataset that has none."""
        identity = getattr(getattr(self.stream.loader, "dataset", None), "identity", None)
        return identity() if callable(identity) else {}

    def announce(self, text: str) -> None:
        """Print `text` before the first step."""
        self.run.notes.append(text)

    def _write(self, name: str, step: int) -> Path:
        """Write a checkpoint: a folder of shards if its name has no suffix, else a file; return its path."""
        self.run.archive_earlier(self.step)
        path = self.run.checkpoints.folder / name
        payload = {
            "kind": "policy",
            "simscaleai_version": __version__,
            "scaler": self.optimizer_step.scaler.state_dict(),
            "step": step,
            "data": {"epoch": self.stream.epoch, "position": self.stream.position},
            "dataset": self._identity(),
            "random": self.processes.all_gather(rng_state.capture(self.device)),
            **self._about(),
            "metrics": dict(self.metrics),
            "best": dict(self.best),
            "job": self.processes.job,
        }
        tensors = self.state.tensors()
        if not path.suffix:  # every process writes its own shards
            return checkpoint.save_sharded_checkpoint(path, payload, tensors)
        is_main = self.processes.is_main
        # Every process takes part: under FSDP2 gathering is a collective operation.
        gathered = full_state_dict(tensors, keep=is_main)
        if is_main:
            checkpoint.save_checkpoint(path, payload | gathered)
        return path

    def _evaluate_into(self, report: Report) -> None:
        """Evaluate and log; write `best.pt` if no earlier evaluation was as good."""
        found = self.evaluate()
        if not found:
            return
        self.metrics |= found
        report.record(self.step, found)
        for check in self.checks:
            if text := check.warning(self.step, self.config.max_steps, found):
                report.warn(text)
        metric = evaluate_model.best_metric(self.config.best_metric, found)
        if metric is None:
            return
        # A resumed run may have another metric, whose values cannot be compared with the old ones.
        before = self.best.get("value") if self.best.get("metric") == metric else None
        if evaluate_model.is_better(metric, found[metric], before):
            self.best = {"metric": metric, "value": found[metric], "step": self.step}
            self._write(BEST, self.step)

    def _finish(self, report: Report) -> None:
        """Save the last checkpoint; raise Stopped if a signal ended the run."""
        step, path = self.run.saved or (-1, Path())
        if self.step >= self.config.max_steps:
            if (step, path) == (self.step, self.run.checkpoints.folder / FINAL):
                report.say(f"{path} is of step {step}: this run is finished; raise max_steps.")
            else:
                report.say(f"Saved {self.save_checkpoint(self.step, is_final=True)}.")
            return
        if step != self.step:
            path = self.save_checkpoint(self.step)
        report.say(f"Stopped at step {self.step} and saved {path}; resume with --resume auto.")
        raise Stopped(self.run.stop.requested or signal.SIGTERM, self.step)

    @property
    def _stopping(self) -> bool:
        """Whether to stop now; several processes agree on it in the all-reduce of the previous step."""
        alone = self.processes.size == 1
        return self.run.stop.requested is not None if alone else self.optimizer_step.all_stop

    def _resume(self) -> None:
        """Load the checkpoint `resume_from`, or after a restart by torchrun the newest one of this job."""
        wanted, restarted = self.config.resume_from, self.processes.restarts > 0
        path: Path | str | None = None
        if wanted == "auto":
            path = self.run.newest()
        else:
            if restarted:
                path = self.run.newest(self.processes.job)
            path = path or wanted
        if path:
            self.run.lock.take(
                create=False
            )  # nobody else may be writing what this run resumes from
            self.load_checkpoint(str(path))

    def _announce(self, report: Report) -> None:
        config = self.config
        warmup = effective_warmup(self.settings.schedule, config.max_steps)
        if warmup != config.warmup_steps:
            self.run.notes.append(
                f"Shortened the warmup of {config.warmup_steps} steps to"
                f" {warmup}: the run has {config.max_steps}."
            )
        if shortfall := self.stream.shortfall:
            self.run.notes.append(shortfall)
        for text in self.run.notes:
            report.say(text)
        for text in self._warnings:
            report.warn(text)

    def _about(self) -> JsonDict:
        """Return the entries of a checkpoint that describe the policy and the settings."""
        return {"policy": self._description(), "config": plain(asdict(self.config))}

    def _description(self) -> JsonDict:
        config = self.config
        # A module that `create_model` did not make is described by the settings.
        named = {"model_name": config.model_name, "model_kwargs": config.model_kwargs}
        return describe(self.model) or named

    def _due(self, every: int) -> bool:
        return every > 0 and (self.step % every == 0 or self.step == self.config.max_steps)

    def _set_rng_state(self) -> None:
        """Restore the RNG states of the checkpoint, or seed them from seed, step and rank."""
        if self._rng_state is not None:
            rng_state.restore(self._rng_state, self.device)
            self._rng_state = None
            return
        stream = f"training after {self.step}" if self.step else "training"
        torch.manual_seed(seeding.derive_seed(self.config.seed, stream, self.processes.rank))
