"""Training: settings, the loop, and the run that `simscale train` starts."""

from __future__ import annotations

from simscaleai.training.run import build_trainer, train_policy
from simscaleai.training.trainer import TrainConfig, Trainer

__all__ = ["TrainConfig", "Trainer", "build_trainer", "train_policy"]
