"""What the server of `forked` has imported; not looked at again by each garbage collection of its forks."""

from __future__ import annotations

import gc

import pytest

import simscaleai.evaluation.evaluate_source
import simscaleai.rl.training
import simscaleai.tools.cli
import simscaleai.training.training_run

__all__ = ["pytest", "simscaleai"]

gc.collect()
gc.freeze()
