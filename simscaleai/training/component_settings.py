"""Settings of a training run, one dataclass for each component.

`RunConfig` composes them, and `TrainConfig` has all of their fields side by side. A field has the same name
in both, except for those in `flat_names`: `OptimizerSettings.name` is `TrainConfig.optimizer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from simscaleai.convert import Converted
from simscaleai.errors import unknown_name
from simscaleai.json_types import JsonDict
from simscaleai.models.inference import resolve_device

AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
STRATEGIES = ("ddp", "fsdp2")
BACKENDS = ("nccl", "gloo")
MAX_WORKERS = 1024  # processes that load data; a typing error must not start a million of them


@dataclass
class Settings(Converted):
    """Base class of the settings of a component.

    Attributes:
      flat_names: {field: its name in `TrainConfig`}, for the fields where the two differ.
      least: {field: smallest allowed value}.
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
            if not getattr(self, name) >= low  # `not >=` and not `<`, so that NaN is refused too
        ]

    def check_names(self) -> None:
        """Raise UserError for an unknown name or a device that is not available."""


@dataclass
class DataSettings(Settings):
    """Settings of the dataset.

    Attributes:
      path: HDF5 file of episodes, or folder of shards; "" trains on synthetic data.
      images: {camera: observation} for images in a file of another tool; see `TrainConfig`.
      state_keys: vectors that make up the state; None for all.
      relative_positions: whether positions are offsets from the gripper; see `models.features`.
      num_workers: processes that load images.
      relabel: fraction of the samples whose instruction is drawn anew; see `data.relabeling`.
      cache_mb: MiB of memory for images; None for what the machine can spare, 0 for none.
      render: cameras whose images are drawn while training, from the recorded states; see `drawn_frames`.
      render_size: pixels per side of these images; 0 for what the dataset notes, or else 64.
    """

    flat_names: ClassVar[Mapping[str, str]] = {"path": "dataset_path", "render": "render_cameras"}
    least: ClassVar[Mapping[str, float]] = {"num_workers": 0, "render_size": 0}

    path: str = ""
    images: dict[str, str] | None = None
    state_keys: list[str] | None = None
    relative_positions: bool = False
    num_workers: int = 4
    cache_mb: float | None = None
    relabel: float = 0.0
    render: list[str] | None = None
    render_size: int = 0

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
    """Settings of the optimizer.

    Attributes:
      name: "adamw", "sgd", or a name from `optimizers.register_optimizer`.
      lr: peak learning rate. It and the next apply to parameters whose group in `model.parameter_groups()`
        sets no value of its own.
      weight_decay: decoupled weight decay of AdamW, or the L2 penalty of SGD.
      grad_clip: largest norm of the gradient; 0 for no limit.
      options: further arguments of the optimizer, such as {momentum: 0.95} or {betas: [0.9, 0.95]}.
    """

    flat_names: ClassVar[Mapping[str, str]] = {"name": "optimizer", "options": "optimizer_options"}
    least: ClassVar[Mapping[str, float]] = {"lr": 0, "weight_decay": 0, "grad_clip": 0}

    name: str = "adamw"
    lr: float = 1e-4
    weight_decay: float = 1e-5
    grad_clip: float = 1.0
    options: JsonDict = field(default_factory=dict)


@dataclass
class ScheduleSettings(Settings):
    """Settings of the learning rate schedule; see `schedules`.

    Attributes:
      name: "cosine", "linear", "constant", or a name from `schedules.register_schedule`.
      warmup_steps: steps of linear warmup.
    """

    flat_names: ClassVar[Mapping[str, str]] = {"name": "schedule"}
    least: ClassVar[Mapping[str, float]] = {"warmup_steps": 0}

    name: str = "cosine"
    warmup_steps: int = 500


@dataclass
class TrainerSettings(Settings):
    """Settings of the training loop.

    Attributes:
      max_steps: number of optimizer steps.
      batch_size: samples of one optimizer step, over all processes and micro-batches.
      accumulate: micro-batches of one optimizer step in each process.
      ema_decay: decay of the moving average of the weights; 0 for no average.
      eval_every: steps between evaluations; 0 for none.
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
        """Return the problems of `Settings`, and a decay of 1 or more."""
        wrong = super().problems()
        if self.ema_decay >= 1:  # such an average would never change
            wrong.append(f"ema_decay is {self.ema_decay}, less than 1 is allowed")
        return wrong


@dataclass
class HardwareSettings(Settings):
    """Settings of the device, of mixed precision, and of training by several processes.

    Attributes:
      device: "auto", "cpu", "cuda", "cuda:1", "mps".
      use_amp, amp_dtype: mixed precision on GPUs, in "bfloat16" or "float16".
      compile: whether to run the model through `torch.compile`.
      distributed: whether to refuse to train without `torchrun`.
      backend: "nccl" or "gloo"; on a CPU it is always gloo.
      strategy: "ddp" or "fsdp2"; see `parallel_model`.
    """

    device: str = "auto"
    use_amp: bool = True
    amp_dtype: str = "bfloat16"
    compile: bool = False
    distributed: bool = False
    backend: str = "nccl"
    strategy: str = "ddp"

    def check_names(self) -> None:
        """Raise UserError for an unknown name or a device that is not available."""
        for kind, known in (("strategy", STRATEGIES), ("backend", BACKENDS)):
            if getattr(self, kind) not in known:
                raise unknown_name(kind, getattr(self, kind), known)
        _ = self.resolved_device, self.amp_torch_dtype  # both raise

    @property
    def resolved_device(self) -> str:
        """Device with "auto" resolved; UserError if it is not available."""
        return resolve_device(self.device)

    @property
    def amp_torch_dtype(self) -> torch.dtype:
        """Dtype named by `amp_dtype`; UserError for an unknown one."""
        if self.amp_dtype not in AMP_DTYPES:
            raise unknown_name("amp_dtype", self.amp_dtype, AMP_DTYPES)
        return AMP_DTYPES[self.amp_dtype]

    @property
    def uses_amp(self) -> bool:
        """Whether mixed precision is used on this device."""
        # On a CPU it would be slower than single precision.
        return self.use_amp and torch.device(self.resolved_device).type == "cuda"


@dataclass
class CheckpointSettings(Settings):
    """Settings of the checkpoints.

    Attributes:
      folder: folder of checkpoints and logs, for a run without a name.
      save_every: steps between checkpoints; 0 for the final one only.
      keep: number of the newest `step_N` checkpoints to keep; 0 for all.
      resume_from: checkpoint to resume from; "auto" for the newest of the run.
      best_metric: metric that selects `best.pt`; see `TrainConfig`.
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
    """Settings of logs and progress.

    Attributes:
      log_every: steps between log entries.
      show_progress: whether to show a progress bar, or lines if the output is not a terminal.
      use_tensorboard: whether to log to TensorBoard; None to do so if it is installed.
      use_wandb, wandb_project, wandb_run_name: also log to Weights & Biases.
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
    """Settings of closed-loop episodes at every evaluation of the run; not part of `TrainConfig`.

    Attributes:
      env_episodes: number of episodes in the dataset's environment; 0 for none.
      seed: seed of the suite of episodes, which is the same at every evaluation.
      num_envs: number of parallel simulations; by default one for each episode, at most 128.
      randomize: randomization level; None for none, whatever level the dataset had.
    """

    env_episodes: int = 0
    seed: int = 0
    num_envs: int | None = None
    randomize: str | None = None


# {group of `RunConfig`: its settings}, for the groups whose fields `TrainConfig` has too.
COMPONENTS: dict[str, type[Settings]] = {
    "data": DataSettings,
    "optimizer": OptimizerSettings,
    "schedule": ScheduleSettings,
    "trainer": TrainerSettings,
    "hardware": HardwareSettings,
    "checkpoints": CheckpointSettings,
    "log": LogSettings,
}
