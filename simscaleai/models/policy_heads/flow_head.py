"""The head of `diffusion_head` along a flow: as good at several ways, in fewer steps."""

from __future__ import annotations

from simscaleai.errors import unknown_name
from simscaleai.models.policy_heads.diffusion_head import SamplingHead
from simscaleai.models.policy_heads.distilled_flow import DistilledFlow
from simscaleai.models.policy_heads.process import Process
from simscaleai.models.policy_heads.rectified_flow import RectifiedFlow

OBJECTIVES = ("rectified", "distilled")


def make_flow(objective: str, num_inference_steps: int) -> Process:
    """Return a flow by name: "rectified", which takes a few steps, or "distilled", for which one is enough.

    Raises:
      UserError: there is no such objective, or fewer than one step.
    """
    if objective not in OBJECTIVES:
        raise unknown_name("flow objective", objective, OBJECTIVES)
    return (RectifiedFlow if objective == "rectified" else DistilledFlow)(num_inference_steps)


class FlowMatchingActionHead(SamplingHead):
    """Samples actions along a flow.

    Args:
      input_dim: width of the features.
      action_dim: width of an action.
      hidden_dim, n_layers: width and number of residual blocks.
      num_inference_steps: steps from noise to actions.
      objective: see `make_flow`.
      action_horizon: consecutive actions that are sampled together.
    """

    def __init__(
        self,
        input_dim: int = 256,
        action_dim: int = 4,
        hidden_dim: int = 256,
        n_layers: int = 4,
        num_inference_steps: int = 5,
        action_horizon: int = 1,
        objective: str = "rectified",
    ) -> None:
        process = make_flow(objective, num_inference_steps)
        super().__init__(process, input_dim, action_dim, hidden_dim, n_layers, action_horizon)
