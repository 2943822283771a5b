"""Settings of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from simscaleai.convert import Converted
from simscaleai.errors import UserError, unknown_name
from simscaleai.models.inference import resolve_device
from simscaleai.storage.find_checkpoint import RUNS
from simscaleai.tracking.folder import is_run_name

AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
STRATEGIES = ("ddp", "fsdp2")
BACKENDS = ("nccl", "gloo")
MAX_WORKERS = 1024  # processes that read data


@dataclass
class TrainConfig(Converted):
    """Every setting of a run; the defaults suit a first try.

    Attributes:
      model_name, model_kwargs: the registered model and its arguments. What describes the data
        (`state_dim`, `action_dim`, image size) is taken from the dataset where it is not given.
      dataset_path: HDF5 file; "" trains on made-up data.
      batch_size: samples of one optimizer step, over all processes and micro-batches: the same recipe
        gives the same curve for any number of them. A multiple of processes x `accumulate`.
      num_workers: processes that read images; data that lies in memory is read without any.
      cache_mb: MiB of memory for images; by default what the machine can spare, 0 reads them from the file
        always.
      lr, weight_decay: of AdamW.
      warmup_steps: steps of linear warmup, followed by a cosine down to 0 at `max_steps`.
      max_steps: optimizer steps.
      grad_clip: largest norm of the gradient; 0 for no limit.
      use_amp, amp_dtype: mixed precision in "bfloat16" or "float16". It is used on GPUs; on a CPU it
        would be slower than single precision and is left out.
      distributed: insist on being started by `torchrun`; a run that is started by it trains with all its
        processes in any case.
      backend: how processes talk, "nccl" or "gloo"; on a CPU it is always gloo.
      checkpoint_dir: folder of checkpoints and logs, for a run without `run_name`.
      save_every: steps between checkpoints; 0 for the final one only.
      resume_from: checkpoint to go on from; "auto" is the newest one of the run's folder that can be
        read, and a fresh start where there is none.
      log_every, eval_every: steps between records, and between evaluations; 0 for none in between.
      use_wandb, wandb_project, wandb_run_name: also record with Weights & Biases.
      device: "auto", "cpu", "cuda", "cuda:1", "mps".
      seed: decides initial weights, data order and dropout.
      show_progress: progress bar, or lines where the output is no terminal.
      accumulate: micro-batches that a process goes through for one optimizer step; each holds
        batch_size / (processes x accumulate) samples.
      ema_decay: of a moving average of the weights, 0.999 or so; evaluation and the policy of a checkpoint
        then use the average. 0 for none.
      compile: run the model through `torch.compile`.
      strategy: how several processes share the work: "ddp", each with a whole model, or "fsdp2", which
        spreads weights and optimizer state over them.
      keep_checkpoints: how many of the newest `step_N` checkpoints stay; 0 for all. `best.pt` and
        `final.pt` always stay.
      best_metric: name of the evaluated metric that decides `best.pt`; "" is the first there is of
        eval_success_rate, success_rate, eval_score and eval_loss. The smallest value is
        the best one of what is named loss, error, mse, mae or distance, the greatest of anything else.
      run_name: put everything into `runs/<run_name>/`, checkpoints into its folder `checkpoints`. It may
        name folders in folders, as "width/3".
      use_tensorboard: record for TensorBoard; None does where it is installed.
      images: {camera: observation}, pictures of another tool that stand for `images/<camera>`, such
        as {"wrist_cam": "agentview_image"}; the first one is `image` too.
      state_keys: the vectors that make up the state, such as ["ee_pos", "gripper_state"]; by default all that
        the dataset has. Images are chosen by the model.
      relative_positions: show the model positions as offsets from the hand; see `models.features`.
    """

    model_name: str = "bc"
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    dataset_path: str = ""
    batch_size: int = 32
    num_workers: int = 4
    lr: float = 1e-4
    weight_decay: float = 1e-5
    warmup_steps: int = 500
    max_steps: int = 100_000
    grad_clip: float = 1.0
    use_amp: bool = True
    amp_dtype: str = "bfloat16"
    distributed: bool = False
    backend: str = "nccl"
    checkpoint_dir: str = "checkpoints"
    save_every: int = 5000
    resume_from: str | None = None
    log_every: int = 100
    eval_every: int = 1000
    use_wandb: bool = False
    wandb_project: str = "simscaleai"
    wandb_run_name: str | None = None
    device: str = "auto"
    seed: int = 0
    show_progress: bool = True
    accumulate: int = 1
    ema_decay: float = 0.0
    compile: bool = False
    strategy: str = "ddp"
    keep_checkpoints: int = 3
    best_metric: str = ""
    run_name: str | None = None
    use_tensorboard: bool | None = None
    cache_mb: float | None = None
    images: dict[str, str] | None = None
    state_keys: list[str] | None = None
    relative_positions: bool = False

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

    @property
    def effective_warmup(self) -> int:
        """`warmup_steps`, shrunk to a tenth of a run that is not longer than it."""
        if self.warmup_steps < self.max_steps:
            return self.warmup_steps
        return self.max_steps // 10

    def learning_rate(self, step: int) -> float:
        """Of the update number `step`, counted from 0."""
        warmup = self.effective_warmup
        if step < warmup:
            return self.lr * (step + 1) / warmup
        progress = (step - warmup) / max(self.max_steps - warmup, 1)
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    def check(self) -> None:
        """Raise one UserError with everything that is out of range."""
        least = {"batch_size": 1, "max_steps": 1, "accumulate": 1}
        least |= dict.fromkeys(
            ("num_workers", "warmup_steps", "grad_clip", "save_every", "log_every", "eval_every"), 0
        )
        least |= dict.fromkeys(("lr", "weight_decay", "seed", "ema_decay", "keep_checkpoints"), 0)
        wrong = [
            f"{name} is {getattr(self, name)}, at least {low} is allowed"
            for name, low in least.items()
            if not getattr(self, name) >= low
        ]
        if self.num_workers > MAX_WORKERS:
            wrong.append(f"num_workers is {self.num_workers}, at most {MAX_WORKERS} is allowed")
        if self.ema_decay >= 1:
            wrong.append(f"ema_decay is {self.ema_decay}, less than 1 is allowed")
        if self.run_name is not None and not is_run_name(self.run_name):
            wrong.append(
                f"run_name is {self.run_name!r}, the name of a folder below runs/ is allowed"
            )
        if wrong:
            raise UserError("The training settings do not work: " + "; ".join(wrong) + ".")
        for kind, known in (("strategy", STRATEGIES), ("backend", BACKENDS)):
            if getattr(self, kind) not in known:
                raise unknown_name(kind, getattr(self, kind), known)
        _ = self.resolved_device, self.amp_torch_dtype
