"""Vision-language-action: images, an instruction and a state, fused by a transformer, to actions.

In the manner of RT-2 (Brohan et al., 2023), OpenVLA (Kim et al., 2024) and, with the heads that sample, pi0
(Black et al., 2024): every image is cut into patches that a vision transformer encodes, the instruction is
read by a transformer of its own, and layers over all tokens together fill one token with what the action
head needs. All of it starts from random weights, unless pretrained towers are named (`towers`).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from simscaleai.errors import UserError, unknown_name
from simscaleai.models.inference import inference
from simscaleai.models.language import SimpleLanguageEncoder
from simscaleai.models.policy_heads.by_name import make_head
from simscaleai.models.policy_heads.chunks import head_actions, head_outputs, masked_mean
from simscaleai.models.registry import register_model
from simscaleai.models.towers import Pretrained, PretrainedText, PretrainedVision
from simscaleai.models.transformer import Encoder, embedding
from simscaleai.models.vision import Augmentation, Points, convolutions, image_keys

STEMS = ("patch", "conv")


class PatchEmbedding(nn.Module):
    """Patches of an image as tokens (Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021).

    Args:
      image_size, patch_size: pixels a side; the first is a multiple of the second.
      in_channels: of the image.
      embed_dim: width of a token.
      stem: "patch", a linear map of each patch, or "conv", convolutions before it, with which small
        data go further (Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021).

    Attributes:
      maps: images (B, C, H, W) -> (B, channels, H / stride, W / stride), of which `projection` makes tokens.
    """

    def __init__(
        self,
        image_size: int = 128,
        patch_size: int = 16,
        in_channels: int = 3,
        embed_dim: int = 256,
        stem: str = "patch",
    ) -> None:
        super().__init__()
        if stem not in STEMS:
            raise unknown_name("stem", stem, STEMS)
        if image_size % patch_size or (stem == "conv" and patch_size % 4):
            raise UserError(
                f"image_size is {image_size} and patch_size {patch_size}; the one must be a multiple of the"
                " other, and patch_size one of 4 with stem 'conv'."
            )
        self.num_patches = (image_size // patch_size) ** 2
        self.maps, self.channels, stride = nn.Sequential(), in_channels, 1
        if stem == "conv":
            self.maps, self.channels = convolutions(in_channels, (2, 2, 1))
            stride = 4
        rest = patch_size // stride
        self.projection = nn.Conv2d(self.channels, embed_dim, rest, rest)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, num_patches, embed_dim)."""
        return self.tokens(self.maps(x))

    def tokens(self, maps: torch.Tensor) -> torch.Tensor:
        """Those of `maps`, (B, num_patches, embed_dim)."""
        return self.projection(maps).flatten(2).transpose(1, 2)


class VisionEncoder(nn.Module):
    """A vision transformer: a token for the whole image, and one for each patch.

    With stem "conv" the token for the whole image starts as positions: where each of `points` features is
    strongest. And an instruction decides how strong each feature counts (FiLM: Perez et al., AAAI 2018;
    in a robot's policy: Brohan et al., RT-1, 2022), so that what is found is what was named.

    Args:
      image_size, patch_size, in_channels, embed_dim, stem: see `PatchEmbedding`.
      num_heads, num_layers, mlp_ratio, dropout: of the transformer.
      points: positions that are found, with stem "conv".
      instructed: with stem "conv", whether `forward` is given instructions.
    """

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
        stem: str = "patch",
        points: int = 32,
        instructed: bool = False,
    ) -> None:
        super().__init__()
        self.patches = PatchEmbedding(image_size, patch_size, in_channels, embed_dim, stem)
        self.whole = embedding(1, 1, embed_dim)
        channels = self.patches.channels
        self.points = Points(channels, points, embed_dim) if stem == "conv" else None
        self.film = nn.Linear(embed_dim, 2 * channels) if stem == "conv" and instructed else None
        self.position = embedding(self.patches.num_patches + 1, embed_dim)
        self.layers = Encoder(num_layers, embed_dim, num_heads, mlp_ratio, dropout)

    def forward(
        self, images: torch.Tensor, instruction: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, C, H, W) in [0, 1] and features (B, embed_dim) -> (B, num_patches + 1, embed_dim)."""
        maps = self.patches.maps(images * 2 - 1)
        if self.film is not None and instruction is not None:
            scale, shift = self.film(instruction)[:, :, None, None].chunk(2, dim=1)
            maps = maps * (1 + scale) + shift
        patches = self.patches.tokens(maps)
        whole = self.whole.expand(len(images), -1, -1).to(patches.dtype)
        if self.points is not None:
            whole = whole + self.points(maps).unsqueeze(1)
        return self.layers(torch.cat([whole, patches], dim=1) + self.position)


@register_model("vla")
class VisionLanguageAction(nn.Module):
    """A transformer over images, an instruction and a state: follows instructions.

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
    """

    rebuild_with: dict[str, Any] = {"towers": {}}

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
    ) -> None:
        super().__init__()
        self.image_keys = image_keys(True, cameras)
        self.image_shape = (in_channels, image_size, image_size)
        self.obs_keys = (*(("state",) if state_dim > 0 else ()), *self.image_keys)
        self.uses_language = use_language
        self.action_horizon, self.n_action_steps = action_horizon, n_action_steps
        layers = (num_heads, num_layers, mlp_ratio, dropout)
        self.augment = Augmentation(random_shift, color_jitter)
        sizes = (image_size, patch_size, in_channels, embed_dim)
        known = {} if towers is None else {"vision": {}, "text": {}, **towers}
        self.vision: VisionEncoder | PretrainedVision = (
            VisionEncoder(*sizes, *layers, stem, instructed=use_language)
            if vision_tower is None
            else PretrainedVision(
                vision_tower, embed_dim, tune_towers, known.get("vision"), use_language
            )
        )
        self.camera = embedding(len(self.image_keys), 1, embed_dim)
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
        elif text_tower is not None:
            raise UserError("text_tower is given and use_language is false; leave out one of them.")
        if state_dim > 0:
            self.state = nn.Linear(state_dim, embed_dim)
        self.readout = embedding(1, 1, embed_dim)
        self.fusion = Encoder(fusion_num_layers, embed_dim, num_heads, mlp_ratio, dropout)
        self.head = make_head(
            action_head_type, embed_dim, action_dim, embed_dim, 2, dropout, action_horizon
        )
        if action_head_type != "mlp":
            self.noise_shape = self.head.noise_shape
            self.normalization = {"actions": "min_max"}
        parts = {"vision": self.vision, "text": getattr(self, "language", None)}
        sources = {k: p.source for k, p in parts.items() if isinstance(p, Pretrained)}
        self.rebuild_with = {"towers": sources}

    def forward(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Loss and predictions for a batch.

        Args:
          batch: "observations" {"image": (B, 3, H, W), "state": (B, state_dim)}, "actions" (B, A), or
            (B, L, A) with "mask" (B, L), and "language", B instructions; without it there is none to follow.

        Returns:
          "predicted_actions" (B, A), or (B, L, A) for an action_horizon L > 1; scalars "loss" and
          "action_mse" (no gradient).
        """
        actions, mask = batch["actions"], batch.get("mask")
        if self.action_horizon == 1:
            actions, mask = actions[:, 0] if actions.ndim == 3 else actions, None
        obs = batch["observations"]
        features = self.features(obs, self._tokens(batch.get("language"), obs))
        outputs = head_outputs(self.head, features, actions, mask, F.mse_loss)
        with torch.no_grad():
            error = (outputs["predicted_actions"] - actions).square()
            return {**outputs, "action_mse": masked_mean(error, mask)}

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
        """(B, embed_dim) for images, state and the numbers (B, N) of an instruction's words."""
        images = torch.stack([self.augment(obs[key]) for key in self.image_keys], dim=1)
        n, cameras = images.shape[:2]  # (B, K, C, H, W)
        words, cond, mask = None, None, None
        if token_ids is not None:
            words, real = self.language(token_ids), token_ids != self.language.padding
            # The mean over the words, without padding, conditions the image encoder of every camera.
            cond = (words * real.unsqueeze(-1)).sum(1) / real.sum(1, keepdim=True)  # (B, D)
            cond = (cond.unsqueeze(1) + self.camera.squeeze(1)).flatten(0, 1)  # (B K, D)
        patches = self.vision(images.flatten(0, 1), cond)  # (B K, P, D)
        patches = patches.unflatten(0, (n, cameras)) + self.camera  # (B, K, P, D)
        tokens = [self.readout.expand(n, -1, -1).to(patches.dtype), patches.flatten(1, 2)]
        if "state" in self.obs_keys:
            tokens.append(self.state(obs["state"]).unsqueeze(1))
        if words is not None:
            others = real.new_ones(n, sum(t.shape[1] for t in tokens))
            mask = torch.cat([others, real], dim=1)
            tokens.append(words)
        return self.fusion(torch.cat(tokens, dim=1), mask)[:, 0]

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
