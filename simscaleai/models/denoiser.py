"""The common part of the models `diffusion` and `flow`: a network that denoises action chunks.

There are two, and the process, diffusion or a flow, does not know which:

    transformer    each action of a chunk is a token. Observations and the level of noise reach every layer as
                   a shift, a scale and a gate (adaLN-Zero of Peebles and Xie, "Scalable Diffusion Models with
                   Transformers", ICCV 2023), and so each layer changes nothing at first
    mlp            the chunk, the level and the observations are one vector (as in Wang et al., "Diffusion
                   Policies as an Expressive Policy Class for Offline RL", ICLR 2023, and Park et al., "Flow
                   Q-Learning", ICML 2025). A small network spends its time on calling kernels, and here there
                   are less than a third as many
"""

from __future__ import annotations

import torch
from torch import nn

from simscaleai.errors import unknown_name
from simscaleai.models.inference import inference
from simscaleai.models.observation_encoder import ObservationEncoder
from simscaleai.models.policy_heads.chunks import fixed_noise
from simscaleai.models.policy_heads.diffusion_head import (
    LEVEL_DIM,
    DenoisingMLP,
    ResidualBlock,
    SinusoidalPosEmbed,
)
from simscaleai.models.policy_heads.process import Process
from simscaleai.models.transformer import Attention, TransformerSettings, embedding, feed_forward
from simscaleai.tensor_types import Batch

COND_LAYERS = 2
DENOISERS = ("transformer", "mlp")


class ChunkSampler(nn.Module):
    """A policy that samples chunks by a process; see `DiffusionPolicy` for the arguments.

    Args:
      process: what it learns and how it samples.
      encoder: of the observations.

    Raises:
      UserError: there is no such denoiser.
    """

    normalization = {"actions": "min_max"}
    presets = {
        "debug": {"embed_dim": 32, "num_heads": 2, "num_layers": 2, "cond_dim": 64},
        "small": {"embed_dim": 128, "num_layers": 4},
        "full": {"embed_dim": 512, "num_heads": 8, "num_layers": 12, "cond_dim": 1024},
    }

    def __init__(
        self,
        process: Process,
        encoder: ObservationEncoder,
        action_dim: int,
        action_horizon: int,
        n_action_steps: int,
        n_obs_steps: int,
        layers: TransformerSettings,
        cond_dim: int,
        denoiser: str = "transformer",
    ) -> None:
        super().__init__()
        if denoiser not in DENOISERS:
            raise unknown_name("denoiser", denoiser, DENOISERS)
        self.process, self.encoder = process, encoder
        self.obs_keys, self.image_shape = encoder.keys, encoder.image_shape
        self.privileged_keys = encoder.privileged_keys
        self.action_horizon, self.n_action_steps = action_horizon, n_action_steps
        self.n_obs_steps = n_obs_steps
        self.noise_shape = (process.draws, action_horizon, action_dim)
        chunk = (encoder.width, action_dim, action_horizon)
        self.network = (
            DenoisingTransformer(*chunk, layers, cond_dim)
            if denoiser == "transformer"
            else DenoisingMLP(*chunk, cond_dim, layers.num_layers)
        )

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the loss at random levels of noise, and what one step of denoising predicts.

        Args:
          batch: "observations" {key: (B, H, ...)}, or (B, ...) for n_obs_steps 1; "actions" (B, L, A) in
            [-1, 1] and "mask" (B, L).

        Returns:
          "loss", "predicted_actions" (B, L, A), and the scalars of `auxiliary`.
        """
        encoded = self.encoder(batch["observations"])
        features = encoded.features
        loss, predicted = self.process.loss(
            lambda x, level: self.network.denoise(x, level, features),
            batch["actions"].reshape(len(features), self.action_horizon, -1),
            batch.get("mask"),
        )
        outputs = {"loss": loss, "predicted_actions": predicted}
        return self.encoder.with_auxiliary_loss(outputs, encoded, batch)

    def predict(
        self, obs: dict[str, torch.Tensor], noise: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return chunks (B, L, A) in [-1, 1].

        Args:
          obs: as in `forward`.
          noise: (B, *noise_shape); by default the same numbers at every call.
        """
        with inference(self):
            # Once, although the network runs at every step of the process.
            features = self.encoder(obs).features  # (B, F)
            if noise is None:
                noise = fixed_noise((len(features), *self.noise_shape), features)
            return self.process.sample(
                lambda x, level: self.network.denoise(x, level, features), noise
            )


class DenoisingTransformer(nn.Module):
    """(noisy actions, level, features of the observations) -> as many actions.

    Args:
      features: width of the features.
      action_dim, action_horizon: of a chunk.
      layers: of the transformer.
      cond_dim: width of the conditioning vector.
    """

    def __init__(
        self,
        features: int,
        action_dim: int,
        action_horizon: int,
        layers: TransformerSettings,
        cond_dim: int,
    ) -> None:
        super().__init__()
        embed_dim = layers.embed_dim
        self.level = SinusoidalPosEmbed(LEVEL_DIM)
        # It is run once for a chunk, not once for each of its actions, and so may be wide.
        self.condition = nn.Sequential(
            nn.Linear(features + LEVEL_DIM, cond_dim),
            *(ResidualBlock(cond_dim, cond_dim, cond_dim) for _ in range(COND_LAYERS)),
            nn.LayerNorm(cond_dim),
            nn.SiLU(),
        )
        self.input = nn.Linear(action_dim, embed_dim)
        self.start = nn.Linear(cond_dim, embed_dim)
        self.position = embedding(action_horizon, embed_dim)
        self.blocks = nn.ModuleList(
            ConditionedBlock(layers, cond_dim) for _ in range(layers.num_layers)
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.output = nn.Linear(embed_dim, action_dim)

    def denoise(self, x: torch.Tensor, level: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """x (B, L, A), level (B,), features (B or more, F) -> (B, L, A)."""
        cond = torch.cat([features[: len(x)], self.level(level)], dim=-1)  # (B, F + LEVEL_DIM)
        cond = self.condition(cond).unsqueeze(1)  # (B, 1, cond_dim), the same for all L actions
        # Each action is a token; (B, L, D) from here on.
        x = self.input(x) + self.position + self.start(cond)
        for block in self.blocks:
            x = block(x, cond)
        return self.output(self.norm(x))


class ConditionedBlock(nn.Module):
    """Attention and MLP, each shifted, scaled and gated by the condition."""

    def __init__(self, layers: TransformerSettings, cond_dim: int) -> None:
        super().__init__()
        embed_dim = layers.embed_dim
        self.norm1 = nn.LayerNorm(embed_dim, elementwise_affine=False)
        self.attention = Attention(embed_dim, layers.num_heads, layers.dropout)
        self.norm2 = nn.LayerNorm(embed_dim, elementwise_affine=False)
        self.mlp = feed_forward(embed_dim, layers.mlp_ratio, layers.dropout)
        self.modulation = nn.Linear(cond_dim, 6 * embed_dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        """x (B, L, D), cond (B, 1, cond_dim) -> (B, L, D)."""
        modulation = self.modulation(
            cond
        )  # (B, 1, 6 D), all zero at first: the block is the identity
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, dim=-1)  # (B, 1, D) each
        normed = torch.addcmul(shift1, self.norm1(x), 1 + scale1)
        x = torch.addcmul(x, gate1, self.attention(normed, normed))
        normed = torch.addcmul(shift2, self.norm2(x), 1 + scale2)
        return torch.addcmul(x, gate2, self.mlp(normed))
