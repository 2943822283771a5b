"""Diffusion Policy: sample the next actions by denoising them (Chi et al., RSS 2023)."""

from __future__ import annotations

from simscaleai.models.denoiser import ChunkSampler
from simscaleai.models.observation_encoder import ObservationEncoder
from simscaleai.models.policy_heads.gaussian_diffusion import GaussianDiffusion
from simscaleai.models.registry import register_model
from simscaleai.models.transformer import TransformerSettings
from simscaleai.models.vision import ImageSettings, image_keys


@register_model("diffusion")
class DiffusionPolicy(ChunkSampler):
    """A transformer that denoises chunks of actions: keeps several good ways apart.

    Args:
      state_dim: width of observations["state"]; 0 for a model of images alone.
      action_dim: width of an action.
      action_horizon: consecutive actions that are sampled together.
      n_action_steps: how many of them are executed before the next sample.
      n_obs_steps: observations that are read, the present one last.
      embed_dim, num_heads, num_layers, mlp_ratio, dropout: of the transformer.
      cond_dim: width of the MLP that encodes observations for it, or of the denoising MLP.
      num_diffusion_steps, num_inference_steps, schedule, sampler: see `GaussianDiffusion`.
      use_image: also read observations["image"].
      cameras: read observations["images/<camera>"] of these instead.
      image_channels, image_size, image_embed_dim: of images and of their features.
      random_shift, color_jitter: augmentation of images, see `vision.Augmentation`.
      backbone, backbone_width, encoder_per_camera: of the image encoders, see `vision.ImageSettings`.
      auxiliary, auxiliary_weight: positions to predict while training, see `auxiliary.AuxiliaryPositions`.
      denoiser: "transformer", or "mlp" of `num_layers` blocks of the width `cond_dim`, which is faster.
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
        num_diffusion_steps: int = 100,
        num_inference_steps: int = 10,
        schedule: str = "cosine",
        sampler: str = "ddim",
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
        denoiser: str = "transformer",
    ) -> None:
        # The encoder reads all steps at once: it needs their number for its width.
        super().__init__(
            GaussianDiffusion(
                num_diffusion_steps, num_inference_steps, schedule=schedule, sampler=sampler
            ),
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
