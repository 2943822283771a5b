"""Heads by name, for models that let one choose."""

from __future__ import annotations

from typing import Any

from simscaleai.errors import unknown_name
from simscaleai.models.policy_heads.diffusion_head import DiffusionActionHead
from simscaleai.models.policy_heads.flow_head import FlowMatchingActionHead
from simscaleai.models.policy_heads.mlp_head import MLPActionHead

HEADS = ("mlp", "diffusion", "flow", "one_step_flow")


def make_head(
    kind: str,
    input_dim: int,
    action_dim: int,
    hidden_dim: int,
    n_layers: int,
    dropout: float,
    action_horizon: int,
) -> Any:
    """A head by name: "mlp", "diffusion", "flow" or "one_step_flow".

    Raises:
      UserError: there is no such head.
    """
    if kind not in HEADS:
        raise unknown_name("head type", kind, HEADS)
    widths = (input_dim, action_dim, hidden_dim, n_layers)
    if kind == "mlp":
        return MLPActionHead(*widths, dropout, action_horizon=action_horizon)
    if kind == "diffusion":
        return DiffusionActionHead(*widths, action_horizon=action_horizon)
    if kind == "flow":
        return FlowMatchingActionHead(*widths, action_horizon=action_horizon)
    return FlowMatchingActionHead(*widths, 1, action_horizon, objective="distilled")
