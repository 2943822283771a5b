"""The head of `diffusion_head` along a flow: as good at several ways, in fewer steps."""

from __future__ import annotations

from simscaleai.models.policy_heads.diffusion_head import SamplingHead
from simscaleai.models.policy_heads.flow import RectifiedFlow


class FlowMatchingActionHead(SamplingHead):
    """Samples actions by rectified flow, in Euler steps.

    Args:
      input_dim: width of the features.
      action_dim: width of an action.
      hidden_dim, n_layers: width and number of residual blocks.
      num_inference_steps: Euler steps.
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
    ) -> None:
        process = RectifiedFlow(num_inference_steps)
        super().__init__(process, input_dim, action_dim, hidden_dim, n_layers, action_horizon)
