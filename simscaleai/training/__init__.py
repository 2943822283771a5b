"""Training: settings, the loop, and the run that `simscale train` starts."""

from __future__ import annotations

from simscaleai.training.trainer import TrainConfig, Trainer
from simscaleai.training.training_run import build_trainer, train_policy

__all__ = ["TrainConfig", "Trainer", "build_trainer", "train_policy"]
