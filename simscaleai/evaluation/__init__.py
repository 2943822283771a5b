"""Closed-loop evaluation: suites of episodes, their results and statistics."""

from simscaleai.evaluation.evaluate import EvalConfig, evaluate_checkpoint, evaluate_policy

__all__ = ["EvalConfig", "evaluate_checkpoint", "evaluate_policy"]
