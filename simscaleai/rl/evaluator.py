"""Closed-loop evaluation under its documented name; see `simscaleai.evaluation.evaluate`."""

from simscaleai.evaluation.evaluate import EvalConfig, evaluate_checkpoint, evaluate_policy

__all__ = ["EvalConfig", "evaluate_checkpoint", "evaluate_policy"]
