"""Settings of a training run, one dataclass for each component that reads them.

`RunConfig` composes them; `TrainConfig` has all of their fields side by side. A field has the same name in
both, except for those in `flat_names`: `OptimizerSettings.name` is `TrainConfig.optimizer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from simscaleai.convert import Converted
from simscaleai.errors import unknown_name
from simscaleai.models.inference import resolve_device

AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
STRATEGIES = ("ddp", "fsdp2")
BACKENDS = ("nccl", "gloo")
MAX_WORKERS = 1024  # processes that read data


@dataclass
class Settings(Converted):
    """Base of the settings of a component.

    Attributes:
      flat_names: {field: name in `TrainConfig`} where the two differ.
      least: {field: smallest value that is allowed}.
    """

    flat_names: ClassVar[Mapping[str, str]] = {}
    least: ClassVar[Mapping[str, float]] = {}

    @classmethod
    def flat_name(cls, name: str) -> str:
        """Return the name of a field in `TrainConfig`."""
        return cls.flat_names.get(name, name)

    def problems(self) -> list[str]:
        """Return a phrase for each value that is out of range, named as in `TrainConfig`."""
        return [
            f"{self.flat_name(name)} is {getattr(self, name)}, at least {low} is allowed"
            for name, low in self.least.items()
            if not getattr(self, name) >= low  # also true for NaN
        ]

    def check_names(self) -> None:
        """Raise UserError for a name that is not known, or a device that is not there."""


@dataclass
class DataSettings(Settings):
    """The dataset.

    Attributes:
      path: HDF5 file of episodes; "" trains on synthetic data.
      images: {camera: observation}, images of another tool's file; see `TrainConfig`.
      state_keys: the vectors that make up the state; None for all.
      relative_positions: positions as offsets from the hand; see `models.features`.
      num_workers: processes that read images.
      relabel: fraction of the samples whose instruction is drawn anew; see `data.relabeling`.
      cache_mb: MiB of memory for images; None for what the machine can spare, 0 for none.
    """

    flat_names: ClassVar[Mapping[str, str]] = {"path": "dataset_path"}
    least: ClassVar[Mapping[str, float]] = {"num_workers": 0}

    path: str = ""
    images: dict[str, str] | None = None
    state_keys: list[str] | None = None
    relative_positions: bool = False
    num_workers: int = 4
    cache_mb: float | None = None
    relabel: float = 0.0

    def problems(self) -> list[str]:
        """Return the problems of `Settings`, and those of too many workers or samples to relabel."""
        wrong = super().problems()
        if not 0 <= self.relabel <= 1:
            wrong.append(f"relabel is {self.relabel}, a fraction from 0 to 1 is allowed")
        if self.num_workers > MAX_WORKERS:
            wrong.append(f"num_workers is {self.num_workers}, at most {MAX_WORKERS} is allowed")
        return wrong


@dataclass
class OptimizerSettings(Settings):
    """The optimizer.

    Attributes:
      name: "adamw", "sgd", or one given to `optimizers.register_optimizer`.
      lr, weight_decay: of every parameter whose group in `model.parameter_groups()` has no own.
      grad_clip: largest norm of the gradient; 0 for no limit.
      options: further arguments of the optimizer, such as {momentum: 0.95} or {betas: [0.9, 0.95]}.
    """

    flat_names: ClassVar[Mapping[str, str]] = {"name": "optimizer", "options": "optimizer_options"}
    least: ClassVar[Mapping[str, float]] = {"lr": 0, "weight_decay": 0, "grad_clip": 0}

    name: str = "adamw"
    lr: float = 1e-4
    weight_decay: float = 1e-5
    grad_clip: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class ScheduleSettings(Settings):
    """The learning rate over the steps; see `schedules`.

    Attributes:
      name: "cosine", "linear", "constant", or one given to `schedules.register_schedule`.
      warmup_steps: steps of linear warmup.
    """

    flat_names: ClassVar[Mapping[str, str]] = {"name": "schedule"}
    least: ClassVar[Mapping[str, float]] = {"warmup_steps": 0}

    name: str = "cosine"
    warmup_steps: int = 500


@dataclass
class TrainerSettings(Settings):
    """The loop.

    Attributes:
      max_steps: optimizer steps.
      batch_size: samples of one optimizer step, over all processes and micro-batches.
      accumulate: micro-batches of one optimizer step in each process.
      ema_decay: of the moving average of the weights; 0 for none.
      eval_every: steps between evaluations; 0 for none in between.
    """

    least: ClassVar[Mapping[str, float]] = {
        "max_steps": 1,
        "batch_size": 1,
        "accumulate": 1,
        "ema_decay": 0,
        "eval_every": 0,
    }

    max_steps: int = 100_000
    batch_size: int = 32
    accumulate: int = 1
    ema_decay: float = 0.0
    eval_every: int = 1000

    def problems(self) -> list[str]:
        """Return the problems of `Settings`, and those of an average that never moves."""
        wrong = super().problems()
        if self.ema_decay >= 1:
            wrong.append(f"ema_decay is {self.ema_decay}, less than 1 is allowed")
        return wrong


@dataclass
class HardwareSettings(Settings):
    """Device, number format, and how several processes train one model.

    Attributes:
      device: "auto", "cpu", "cuda", "cuda:1", "mps".
      use_amp, amp_dtype: mixed precision on GPUs, in "bfloat16" or "float16".
      compile: run the model through `torch.compile`.
      distributed: insist on `torchrun`.
      backend: "nccl" or "gloo"; on a CPU always gloo.
      strategy: "ddp" or "fsdp2".
    """

    device: str = "auto"
    use_amp: bool = True
    amp_dtype: str = "bfloat16"
    compile: bool = False
    distributed: bool = False
    backend: str = "nccl"
    strategy: str = "ddp"

    def check_names(self) -> None:
        """Raise UserError for a name that is not known, or a device that is not there."""
        for kind, known in (("strategy", STRATEGIES), ("backend", BACKENDS)):
            if getattr(self, kind) not in known:
                raise unknown_name(kind, getattr(self, kind), known)
        _ = self.resolved_device, self.amp_torch_dtype

    @property
    def resolved_device(self) -> str:
        """The device that `device` stands for here; UserError if it is not there."""
        return resolve_device(self.device)

    @property
    def amp_torch_dtype(self) -> torch.dtype:
        """The dtype named by `amp_dtype`; UserError for an unknown one."""
        if self.amp_dtype not in AMP_DTYPES:
            raise unknown_name("amp_dtype", self.amp_dtype, AMP_DTYPES)
        return AMP_DTYPES[self.amp_dtype]

    @property
    def uses_amp(self) -> bool:
        """Whether mixed precision is used on the device at hand."""
        return self.use_amp and torch.device(self.resolved_device).type == "cuda"


@dataclass
class CheckpointSettings(Settings):
    """The checkpoints.

    Attributes:
      folder: of checkpoints and logs, for a run without a name.
      save_every: steps between checkpoints; 0 for the final one only.
      keep: number of `step_N` checkpoints that stay; 0 for all.
      resume_from: checkpoint to resume from; "auto" for the newest of the run.
      best_metric: evaluated metric that decides `best.pt`; see `TrainConfig`.
    """

    flat_names: ClassVar[Mapping[str, str]] = {
        "folder": "checkpoint_dir",
        "keep": "keep_checkpoints",
    }
    least: ClassVar[Mapping[str, float]] = {"save_every": 0, "keep": 0}

    folder: str = "checkpoints"
    save_every: int = 5000
    keep: int = 3
    resume_from: str | None = None
    best_metric: str = ""


@dataclass
class LogSettings(Settings):
    """What is recorded and shown.

    Attributes:
      log_every: steps between records.
      show_progress: progress bar, or lines where the output is no terminal.
      use_tensorboard: None where it is installed.
      use_wandb, wandb_project, wandb_run_name: also record with Weights & Biases.
    """

    least: ClassVar[Mapping[str, float]] = {"log_every": 0}

    log_every: int = 100
    show_progress: bool = True
    use_tensorboard: bool | None = None
    use_wandb: bool = False
    wandb_project: str = "simscaleai"
    wandb_run_name: str | None = None


@dataclass
class EvalSettings(Converted):
    """Evaluation in closed loop at every evaluation of the run; not part of `TrainConfig`.

    Attributes:
      env_episodes: episodes in the environment that the dataset names; 0 for none.
      seed: which suite of episodes; the same one every time.
      num_envs: simulations at once; by default as many as there are episodes, at most 128.
      randomize: randomization level; None for none, whatever the data had.
    """

    env_episodes: int = 0
    seed: int = 0
    num_envs: int | None = None
    randomize: str | None = None


# {group of `RunConfig`: its settings}, for all that `TrainConfig` has too.
COMPONENTS: dict[str, type[Settings]] = {
    "data": DataSettings,
    "optimizer": OptimizerSettings,
    "schedule": ScheduleSettings,
    "trainer": TrainerSettings,
    "hardware": HardwareSettings,
    "checkpoints": CheckpointSettings,
    "log": LogSettings,
}
