"""Settings of a training run as one flat dataclass, for use from Python."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar

import torch

from simscaleai.convert import Converted
from simscaleai.errors import UserError
from simscaleai.json_types import JsonDict
from simscaleai.storage.find_checkpoint import RUNS
from simscaleai.tracking.folder import is_run_name
from simscaleai.training import optimizers, schedules
from simscaleai.training.component_settings import (
    COMPONENTS,
    CheckpointSettings,
    DataSettings,
    HardwareSettings,
    LogSettings,
    OptimizerSettings,
    ScheduleSettings,
    Settings,
    TrainerSettings,
)

S = TypeVar("S", bound=Settings)


@dataclass
class TrainConfig(Converted):
    """All settings of a run side by side.

    The defaults are those of the components' settings, which `part` returns.

    Attributes:
      model_name, model_kwargs: the registered model and its arguments. Arguments that describe the data
        (`state_dim`, `action_dim`, image size) are taken from the dataset by default.
      dataset_path: HDF5 file, or folder of shards; "" trains on synthetic data.
      batch_size: samples of one optimizer step, over all processes and micro-batches, so that the loss curve
        does not depend on their number. A multiple of processes x `accumulate`.
      num_workers: processes that load images; data that is cached in memory needs none.
      cache_mb: MiB of memory to cache images in; None for what the machine can spare, 0 to read them from the
        file every time.
      lr, weight_decay: peak learning rate and weight decay of the optimizer.
      warmup_steps: steps of linear warmup, followed by the schedule up to `max_steps`.
      max_steps: number of optimizer steps.
      grad_clip: largest norm of the gradient; 0 for no limit.
      use_amp, amp_dtype: mixed precision in "bfloat16" or "float16", on GPUs only; on a CPU it would be
        slower than single precision.
      distributed: whether to refuse to train without `torchrun`; a run that `torchrun` started uses all its
        processes in any case.
      backend: backend of collective operations, "nccl" or "gloo"; on a CPU it is always gloo.
      checkpoint_dir: folder of checkpoints and logs, for a run without `run_name`.
      save_every: steps between checkpoints; 0 for the final one only.
      resume_from: checkpoint to resume from; "auto" for the newest readable one in the run's folder, or a new
        run if there is none.
      log_every, eval_every: steps between log entries, and between evaluations; 0 for none.
      use_wandb, wandb_project, wandb_run_name: also log to Weights & Biases.
      device: "auto", "cpu", "cuda", "cuda:1", "mps".
      seed: determines initial weights, data order and dropout.
      show_progress: whether to show a progress bar, or lines if the output is not a terminal.
      accumulate: micro-batches of one optimizer step in each process; each has
        batch_size / (processes x accumulate) samples.
      ema_decay: decay of a moving average of the weights, such as 0.999; evaluation and the policy of a
        checkpoint then use the average. 0 for no average.
      compile: whether to run the model through `torch.compile`.
      strategy: "ddp", where each process has the whole model, or "fsdp2", which shards weights and optimizer
        state.
      keep_checkpoints: number of the newest `step_N` checkpoints to keep; 0 for all. `best.pt` and `final.pt`
        are always kept.
      best_metric: metric that selects `best.pt`; "" for the first of eval_success_rate, success_rate,
        eval_score and eval_loss that an evaluation has. For names with loss, error, mse, mae or distance the
        smallest value is the best one, for all others the greatest.
      run_name: name of the run, whose files go into `runs/<run_name>/` and its checkpoints into the folder
        `checkpoints` there. It may have slashes, as in "width/3".
      use_tensorboard: whether to log to TensorBoard; None to do so if it is installed.
      images: {camera: observation} for images in a file of another tool, which become `images/<camera>`, such
        as {"wrist_cam": "agentview_image"}; the first one becomes `image` too.
      state_keys: vectors that make up the state, such as ["ee_pos", "gripper_state"]; by default all in the
        dataset. The model's arguments choose the images.
      relative_positions: whether positions are offsets from the gripper; see `models.features`.
      relabel: fraction of the samples whose instruction is drawn anew from all those that the task can give,
        with the expert's action for it, so that only words say what to do; 1.0 where a policy is to follow
        instructions. The dataset has these labels, see `data.relabeling`.
      render_cameras: cameras whose images are drawn while training, from the recorded states, such as
        ["wrist_cam", "front_cam"]: equal to recorded ones, without their bytes.
      render_size: pixels per side of these images; by default what `datagen --states-only` noted, or else 64.
      optimizer, optimizer_options: "adamw" or "sgd", and further arguments of it; see `optimizers`.
      schedule: "cosine" down to 0, "linear" down to 0, or "constant"; see `schedules`.
    """

    model_name: str = "bc"
    model_kwargs: JsonDict = field(default_factory=dict)
    dataset_path: str = DataSettings.path
    batch_size: int = TrainerSettings.batch_size
    num_workers: int = DataSettings.num_workers
    lr: float = OptimizerSettings.lr
    weight_decay: float = OptimizerSettings.weight_decay
    warmup_steps: int = ScheduleSettings.warmup_steps
    max_steps: int = TrainerSettings.max_steps
    grad_clip: float = OptimizerSettings.grad_clip
    use_amp: bool = HardwareSettings.use_amp
    amp_dtype: str = HardwareSettings.amp_dtype
    distributed: bool = HardwareSettings.distributed
    backend: str = HardwareSettings.backend
    checkpoint_dir: str = CheckpointSettings.folder
    save_every: int = CheckpointSettings.save_every
    resume_from: str | None = CheckpointSettings.resume_from
    log_every: int = LogSettings.log_every
    eval_every: int = TrainerSettings.eval_every
    use_wandb: bool = LogSettings.use_wandb
    wandb_project: str = LogSettings.wandb_project
    wandb_run_name: str | None = LogSettings.wandb_run_name
    device: str = HardwareSettings.device
    seed: int = 0
    show_progress: bool = LogSettings.show_progress
    accumulate: int = TrainerSettings.accumulate
    ema_decay: float = TrainerSettings.ema_decay
    compile: bool = HardwareSettings.compile
    strategy: str = HardwareSettings.strategy
    keep_checkpoints: int = CheckpointSettings.keep
    best_metric: str = CheckpointSettings.best_metric
    run_name: str | None = None
    use_tensorboard: bool | None = LogSettings.use_tensorboard
    cache_mb: float | None = DataSettings.cache_mb
    images: dict[str, str] | None = DataSettings.images
    state_keys: list[str] | None = DataSettings.state_keys
    relative_positions: bool = DataSettings.relative_positions
    relabel: float = DataSettings.relabel
    render_cameras: list[str] | None = DataSettings.render
    render_size: int = DataSettings.render_size
    optimizer: str = OptimizerSettings.name
    optimizer_options: JsonDict = field(default_factory=dict)
    schedule: str = ScheduleSettings.name

    def part(self, cls: type[S]) -> S:
        """Return the settings of one component, such as `OptimizerSettings`."""
        return cls(**{f.name: getattr(self, cls.flat_name(f.name)) for f in fields(cls)})

    @property
    def run_folder(self) -> Path:
        """Folder of the run's settings and logs."""
        return RUNS / self.run_name if self.run_name else Path(self.checkpoint_dir)

    @property
    def checkpoint_folder(self) -> Path:
        """Folder of the run's checkpoints: `run_folder` itself for a run without a name."""
        return self.run_folder / "checkpoints" if self.run_name else self.run_folder

    @property
    def resolved_device(self) -> str:
        """Device with "auto" resolved; UserError if it is not available."""
        return self.part(HardwareSettings).resolved_device

    @property
    def amp_torch_dtype(self) -> torch.dtype:
        """Dtype named by `amp_dtype`; UserError for an unknown one."""
        return self.part(HardwareSettings).amp_torch_dtype

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of optimizer step `step`, counted from 0."""
        return schedules.learning_rate(self.part(ScheduleSettings), self.lr, step, self.max_steps)

    def check(self) -> None:
        """Raise one UserError with every value that is out of range, or one for an unknown name."""
        parts = [self.part(cls) for cls in COMPONENTS.values()]
        wrong = [problem for part in parts for problem in part.problems()]
        if not self.seed >= 0:  # `not >=`, so that NaN is refused too
            wrong.append(f"seed is {self.seed}, at least 0 is allowed")
        if self.run_name is not None and not is_run_name(self.run_name):
            wrong.append(
                f"run_name is {self.run_name!r}, the name of a folder below runs/ is allowed"
            )
        if wrong:
            raise UserError("The training settings do not work: " + "; ".join(wrong) + ".")
        for part in parts:
            part.check_names()
        # Both raise for unknown names and options: better now than after the data has been loaded.
        optimizers.slot_shapes(self.part(OptimizerSettings))
        self.learning_rate(self.max_steps)
