"""Vision-language-action: images, an instruction and a state to actions.

Fusion "transformer" is in the manner of RT-2 (Brohan et al., 2023), OpenVLA (Kim et al., 2024) and, with
heads that sample, pi0 (Black et al., 2024): every image is cut into patches that a vision transformer
encodes, the instruction is read by a transformer of its own, and layers over all tokens together fill one
token with what the action head needs. Fusion "film" is in the manner of RT-1 (Brohan et al., 2022), without
its tokens: the instruction scales and shifts the maps of convolutions and the layers after them
(`film_fusion`). Use it for small images and few demonstrations.

All of it starts from random weights, unless pretrained towers are named (`towers`).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from simscaleai.errors import UserError, unknown_name
from simscaleai.models.auxiliary import AuxiliaryPositions
from simscaleai.models.film_fusion import FiLMFusion
from simscaleai.models.inference import inference
from simscaleai.models.language import SimpleLanguageEncoder
from simscaleai.models.observation_encoder import Encoded
from simscaleai.models.policy_heads.by_name import make_head
from simscaleai.models.policy_heads.chunks import head_actions, head_outputs, masked_mean
from simscaleai.models.registry import register_model
from simscaleai.models.towers import Pretrained, PretrainedText, PretrainedVision
from simscaleai.models.transformer import Encoder, embedding
from simscaleai.models.vision import Augmentation, ImageSettings, image_keys
from simscaleai.models.vision_transformer import PatchEmbedding, VisionEncoder
from simscaleai.tensor_types import Batch

__all__ = ["PatchEmbedding", "VisionEncoder", "VisionLanguageAction"]

FUSIONS = ("transformer", "film")


@register_model("vla")
class VisionLanguageAction(nn.Module):
    """Fuses images, an instruction and a state, and predicts actions: follows instructions.

    Args:
      image_size, patch_size, in_channels, embed_dim, num_heads, num_layers, mlp_ratio, dropout: of the
        vision transformer; width, heads, ratio and dropout are those of every part.
      use_language: read the instruction.
      vocab_size, max_text_len, lang_num_layers: of `SimpleLanguageEncoder`.
      action_dim: width of an action.
      action_head_type: "mlp" regresses; "diffusion" and "flow" sample.
      action_horizon: consecutive actions that are predicted at once.
      state_dim: width of observations["state"], which becomes a token; 0 for none.
      n_action_steps: actions that are executed before the next prediction.
      fusion_num_layers: layers over all tokens together.
      cameras: read observations["images/<camera>"] of these instead of "image".
      stem: of `PatchEmbedding`.
      random_shift, color_jitter: augmentation of images, see `vision.Augmentation`.
      vision_tower, text_tower: pretrained, in place of the vision transformer and of `SimpleLanguageEncoder`:
        folders, or names on the Hugging Face Hub; see `towers`.
      tune_towers: train their weights too.
      towers: {"vision", "text"}, what a checkpoint tells of them; no file is read then.
      fusion: "transformer", layers over the tokens of patches, words and state, or "film", see `FiLMFusion`.
      backbone, backbone_width, encoder_per_camera: of the image encoders of fusion "film", see
        `vision.ImageSettings`.
      film_hidden_dim, film_num_layers: width and number of the layers that follow them.
      auxiliary, auxiliary_weight: positions to predict while training, see `auxiliary.AuxiliaryPositions`.
    """

    rebuild_with: dict[str, Any] = {"towers": {}}
    privileged_keys: tuple[str, ...] = ()

    presets = {
        "debug": {
            "image_size": 64,
            "embed_dim": 64,
            "num_heads": 2,
            "num_layers": 2,
            "max_text_len": 16,
        },
        "small": {
            "image_size": 64,
            "embed_dim": 128,
            "num_layers": 2,
            "lang_num_layers": 1,
            "stem": "conv",
            "max_text_len": 16,
            "dropout": 0.0,
        },
        "film": {
            "image_size": 64,
            "embed_dim": 128,
            "lang_num_layers": 1,
            "max_text_len": 16,
            "dropout": 0.0,
            "fusion": "film",
            "backbone_width": 16,
        },
        "full": {
            "image_size": 224,
            "embed_dim": 1024,
            "num_heads": 16,
            "num_layers": 24,
            "lang_num_layers": 6,
            "fusion_num_layers": 6,
            "vocab_size": 32_000,
        },
    }

    def __init__(
        self,
        image_size: int = 128,
        patch_size: int = 16,
        in_channels: int = 3,
        embed_dim: int = 256,
        num_heads: int = 4,
        num_layers: int = 4,
        mlp_ratio: float = 4.0,
        dropout: float = 0.1,
        use_language: bool = True,
        vocab_size: int = 1000,
        max_text_len: int = 64,
        lang_num_layers: int = 2,
        action_dim: int = 4,
        action_head_type: str = "mlp",
        action_horizon: int = 1,
        state_dim: int = 0,
        n_action_steps: int = 1,
        fusion_num_layers: int = 2,
        cameras: list[str] | None = None,
        stem: str = "patch",
        random_shift: int = 0,
        color_jitter: float = 0.0,
        vision_tower: str | None = None,
        text_tower: str | None = None,
        tune_towers: bool = False,
        towers: dict[str, Any] | None = None,
        fusion: str = "transformer",
        backbone: str = "conv",
        backbone_width: int = 32,
        encoder_per_camera: bool = True,
        film_hidden_dim: int = 256,
        film_num_layers: int = 3,
        auxiliary: list[str] | None = None,
        auxiliary_weight: float = 1.0,
    ) -> None:
        super().__init__()
        _check_parts(fusion, use_language, vision_tower, text_tower)
        self.image_keys = image_keys(True, cameras)
        self.image_shape = (in_channels, image_size, image_size)
        self.obs_keys = (*(("state",) if state_dim > 0 else ()), *self.image_keys)
        self.uses_language = use_language
        self.action_horizon, self.n_action_steps = action_horizon, n_action_steps
        # Of a checkpoint, towers are built from what it says: {} stands for one that it says nothing of.
        known = {} if towers is None else {"vision": {}, "text": {}, **towers}
        if use_language:
            self.language: SimpleLanguageEncoder | PretrainedText = (
                SimpleLanguageEncoder(
                    vocab_size, max_text_len, embed_dim, num_heads, lang_num_layers, dropout
                )
                if text_tower is None
                else PretrainedText(
                    text_tower, embed_dim, tune_towers, max_text_len, known.get("text")
                )
            )
        self.film: FiLMFusion | None = None
        if fusion == "film":
            images = ImageSettings(
                *(self.image_keys, in_channels, image_size, embed_dim, random_shift, color_jitter),
                *(backbone, backbone_width, encoder_per_camera),
                *(tuple(auxiliary or ()), auxiliary_weight),
            )
            cond_dim, width = (embed_dim if use_language else 0), film_hidden_dim
            self.film = FiLMFusion(state_dim, images, cond_dim, width, film_num_layers, dropout)
            self.privileged_keys = self.film.encoder.privileged_keys
        else:
            self.augment = Augmentation(random_shift, color_jitter)
            self.vision: VisionEncoder | PretrainedVision = (
                VisionEncoder(
                    *(image_size, patch_size, in_channels, embed_dim),
                    *(num_heads, num_layers, mlp_ratio, dropout),
                    stem,
                    instructed=use_language,
                )
                if vision_tower is None
                else PretrainedVision(
                    vision_tower, embed_dim, tune_towers, known.get("vision"), use_language
                )
            )
            # One encoder for all cameras; this is what tells their tokens apart.
            self.camera = embedding(len(self.image_keys), 1, embed_dim)
            if state_dim > 0:
                self.state = nn.Linear(state_dim, embed_dim)
            self.readout = embedding(1, 1, embed_dim)
            self.fusion = Encoder(fusion_num_layers, embed_dim, num_heads, mlp_ratio, dropout)
            width = embed_dim
            if (
                auxiliary
            ):  # predicted from what the head reads, which then reads the predictions too
                self.positions = AuxiliaryPositions(width, auxiliary, auxiliary_weight)
                self.privileged_keys = self.positions.privileged_keys
                width += self.positions.width
        # FiLM layers are hidden layers already: what is left of a regression is linear.
        hidden_layers = 0 if fusion == "film" and action_head_type == "mlp" else 2
        self.head = make_head(
            *(action_head_type, width, action_dim, width if fusion == "film" else embed_dim),
            *(hidden_layers, dropout, action_horizon),
        )
        if action_head_type != "mlp":
            self.noise_shape = self.head.noise_shape
            self.normalization = {"actions": "min_max"}
        parts = {
            "vision": getattr(self, "vision", None),
            "text": getattr(self, "language", None),
        }
        sources = {k: p.source for k, p in parts.items() if isinstance(p, Pretrained)}
        self.rebuild_with = {"towers": sources}

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Loss and predictions for a batch.

        Args:
          batch: "observations" {"image": (B, 3, H, W), "state": (B, state_dim)}, "actions" (B, A), or
            (B, L, A) with "mask" (B, L), and "language", B instructions; without it there is none to follow.

        Returns:
          "predicted_actions" (B, A), or (B, L, A) for an action_horizon L > 1; scalars "loss" and
          "action_mse" (no gradient), and those of `auxiliary`.
        """
        actions, mask = batch["actions"], batch.get("mask")
        if self.action_horizon == 1:
            actions, mask = actions[:, 0] if actions.ndim == 3 else actions, None
        obs = batch["observations"]
        encoded = self.encode(obs, self._tokens(batch.get("language"), obs))
        # A relabeled chunk has one known action; `mask` leaves out the others.
        outputs = head_outputs(self.head, encoded.features, actions, mask, F.mse_loss)
        with torch.no_grad():
            error = (outputs["predicted_actions"] - actions).square()
            outputs["action_mse"] = masked_mean(error, mask)
        if encoded.offsets is None:
            return outputs
        return self._auxiliary_positions.add_loss(outputs, encoded.offsets, batch)

    def predict(
        self,
        obs: dict[str, torch.Tensor],
        language: str | list[str] | None = None,
        noise: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Actions (B, A) or (B, L, A) in [-1, 1]; no gradient, no dropout.

        Args:
          obs: as in `forward`.
          language: one instruction for all rows, or one for each.
          noise: (B, *noise_shape) for heads that sample; by default the same numbers at every call.
        """
        with inference(self):
            features = self.features(obs, self._tokens(language, obs))
            return head_actions(self.head, features, noise)

    def features(
        self, obs: dict[str, torch.Tensor], token_ids: torch.Tensor | None
    ) -> torch.Tensor:
        """What the head reads, for images, state and the numbers (B, N) of an instruction's words."""
        return self.encode(obs, token_ids).features

    def encode(self, obs: dict[str, torch.Tensor], token_ids: torch.Tensor | None) -> Encoded:
        """Return features and predicted positions; arguments as of `features`."""
        words, real, cond = None, None, None
        if token_ids is not None:
            words, real = self.language(token_ids), token_ids != self.language.padding
            # The mean over the words, without padding, conditions the image encoder of every camera.
            cond = (words * real.unsqueeze(-1)).sum(1) / real.sum(1, keepdim=True)  # (B, D)
        if self.film is not None:
            return self.film(obs, cond)
        features = self._fuse_tokens(obs, words, real, cond)  # (B, D)
        if not self.privileged_keys:
            return Encoded([features])
        offsets = self.positions(features)  # (B, K, 3)
        return Encoded([features, self.positions.features(offsets)], offsets)

    def _fuse_tokens(
        self,
        obs: dict[str, torch.Tensor],
        words: torch.Tensor | None,
        real: torch.Tensor | None,
        cond: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return features (B, D) of fusion "transformer".

        Args:
          words, real: (B, N, D) and (B, N), tokens of an instruction and which of them are no padding.
          cond: (B, D), the mean of these words.
        """
        # All images of a batch go through the one encoder together.
        images = torch.stack([self.augment(obs[key]) for key in self.image_keys], dim=1)
        n, cameras = images.shape[:2]  # (B, K, C, H, W)
        if cond is not None:
            cond = (cond.unsqueeze(1) + self.camera.squeeze(1)).flatten(0, 1)  # (B K, D)
        patches = self.vision(images.flatten(0, 1), cond)  # (B K, P, D)
        patches = patches.unflatten(0, (n, cameras)) + self.camera  # (B, K, P, D)
        tokens = [self.readout.expand(n, -1, -1).to(patches.dtype), patches.flatten(1, 2)]
        mask = None
        if "state" in self.obs_keys:
            tokens.append(self.state(obs["state"]).unsqueeze(1))
        if words is not None and real is not None:
            # Only padding of the instruction is hidden from attention.
            others = real.new_ones(n, sum(t.shape[1] for t in tokens))
            mask = torch.cat([others, real], dim=1)
            tokens.append(words)
        return self.fusion(torch.cat(tokens, dim=1), mask)[:, 0]  # the readout, (B, D)

    @property
    def _auxiliary_positions(self) -> AuxiliaryPositions:
        found = self.positions if self.film is None else self.film.encoder.auxiliary
        assert found is not None
        return found

    def _tokens(
        self, language: str | list[str] | None, obs: dict[str, torch.Tensor]
    ) -> torch.Tensor | None:
        if not self.uses_language:
            return None
        images = obs[self.image_keys[0]]
        texts = (
            [language or ""] * len(images)
            if language is None or isinstance(language, str)
            else language
        )
        return self.language.tokenize(list(texts), images.device)


def _check_parts(
    fusion: str, use_language: bool, vision_tower: str | None, text_tower: str | None
) -> None:
    """Raise UserError for parts that are not there, or do not go together."""
    if fusion not in FUSIONS:
        raise unknown_name("fusion", fusion, FUSIONS)
    if fusion == "film" and vision_tower is not None:
        raise UserError(
            "vision_tower is given and fusion is 'film', whose images go through a backbone; leave it out, or"
            " use fusion 'transformer'."
        )
    if not use_language and text_tower is not None:
        raise UserError("text_tower is given and use_language is false; leave out one of them.")
