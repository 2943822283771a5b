"""Reinforcement learning and closed-loop evaluation."""

from simscaleai.evaluation import EvalConfig, evaluate_checkpoint, evaluate_policy

__all__ = ["EvalConfig", "evaluate_checkpoint", "evaluate_policy"]
