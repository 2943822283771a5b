"""The model of `diffusion` with another objective: a flow, which samples in few steps or in one."""

from __future__ import annotations

from simscaleai.models.denoiser import ChunkSampler
from simscaleai.models.observation_encoder import ObservationEncoder
from simscaleai.models.policy_heads.flow_head import make_flow
from simscaleai.models.registry import register_model
from simscaleai.models.transformer import TransformerSettings
from simscaleai.models.vision import ImageSettings, image_keys


@register_model("flow")
class FlowPolicy(ChunkSampler):
    """A transformer that moves noise to chunks of actions: as diffusion, in half the steps.

    Args:
      num_inference_steps: steps from noise to actions.
      objective: "rectified", which takes about 5 steps, or "distilled", for which 1 is enough; see
        `policy_heads.distilled_flow`.

    All others are those of `DiffusionPolicy`.
    """

    def __init__(
        self,
        state_dim: int = 20,
        action_dim: int = 4,
        action_horizon: int = 8,
        n_action_steps: int = 4,
        n_obs_steps: int = 2,
        embed_dim: int = 64,
        num_heads: int = 4,
        num_layers: int = 2,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
        cond_dim: int = 256,
        num_inference_steps: int = 5,
        use_image: bool = False,
        cameras: list[str] | None = None,
        image_channels: int = 3,
        image_size: int = 128,
        image_embed_dim: int = 64,
        random_shift: int = 4,
        color_jitter: float = 0.0,
        backbone: str = "conv",
        backbone_width: int = 32,
        encoder_per_camera: bool = True,
        auxiliary: list[str] | None = None,
        auxiliary_weight: float = 1.0,
        objective: str = "rectified",
        denoiser: str = "transformer",
    ) -> None:
        super().__init__(
            make_flow(objective, num_inference_steps),
            ObservationEncoder(
                state_dim,
                ImageSettings(
                    image_keys(use_image, cameras),
                    image_channels,
                    image_size,
                    image_embed_dim,
                    random_shift,
                    color_jitter,
                    backbone,
                    backbone_width,
                    encoder_per_camera,
                    tuple(auxiliary or ()),
                    auxiliary_weight,
                ),
                n_obs_steps,
            ),
            action_dim,
            action_horizon,
            n_action_steps,
            n_obs_steps,
            TransformerSettings(embed_dim, num_heads, num_layers, mlp_ratio, dropout),
            cond_dim,
            denoiser,
        )
