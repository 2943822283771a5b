"""Pretrained encoders of images and of words, by name, in place of those that start from random weights.

    vision = PretrainedVision("google/siglip-base-patch16-224", embed_dim=256)
    tokens = vision(images)                        # (B, 3, H, W) in [0, 1] -> (B, N, 256)
    text = PretrainedText("path/to/a/folder", embed_dim=256, max_len=16)
    tokens = text(text.tokenize(["push"], device))  # (B, 16, 256)

A name is a folder that `save_pretrained` of `transformers` wrote, or one on the Hugging Face Hub, which is
downloaded; no weights come with this package. What a tower is and what it knows besides its weights is its
`source`, plain data, from which `source=` makes it again without the folder (`tower_files`).

A frozen tower is not trained at all: no gradient, no dropout, nothing for the optimizer. Trap: it is in the
checkpoint all the same, with all its weights, so that the checkpoint is whole.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from simscaleai.errors import UserError
from simscaleai.models import tower_files

NOTHING = -1  # after the end of a text; a tower may use its padding token for other things too


class Pretrained(nn.Module):
    """What both have: a tower that is trained or not, and a linear map to the width of the policy's tokens.

    Args:
      name: a folder or a name on the Hub.
      embed_dim: width of a token.
      tuned: whether the tower's weights are trained too.
      source: what an earlier tower had as its `source`: weights are random then, and no file is read.

    Attributes:
      source: plain data, all that there is to know of the tower besides its weights.
      tower: the module of `transformers`.

    Raises:
      UserError: there is no such tower, or `transformers` is not installed.
    """

    part: str
    tower: Any

    def __init__(
        self, name: str, embed_dim: int, tuned: bool, source: dict[str, Any] | None
    ) -> None:
        super().__init__()
        self.tuned = tuned
        lacking: frozenset[str] = frozenset()
        if source is None:
            source = tower_files.read(name, self.part)
            self.tower, lacking = tower_files.load(name, source["config"])
        else:
            self.tower = tower_files.build(source)
        self.source = source
        self.tower.eval()
        width = self._set_trained(name, lacking)
        self.projection = nn.Linear(width, embed_dim)

    def train(self, mode: bool = True) -> Pretrained:
        """As of any module, but a frozen tower stays in evaluation mode."""
        super().train(mode)
        if not self.tuned:
            self.tower.eval()
        return self

    def look(self, **inputs: Any) -> torch.Tensor:
        """The tower's tokens (B, N, width), with a gradient if it is tuned."""
        with torch.set_grad_enabled(self.tuned and torch.is_grad_enabled()):
            return self.tower(**inputs).last_hidden_state

    def sample(self) -> dict[str, torch.Tensor]:
        """Inputs of `look` of one row, as good as any."""
        raise NotImplementedError

    def _set_trained(self, name: str, lacking: frozenset[str]) -> int:
        """Have the weights that its tokens depend on trained, if it is tuned; the width of the tokens.

        A pooling head, say, is not among them, and processes that train together must not wait for its
        gradient. Nor does it matter if the file lacks it; any other weight would be random unnoticed.
        """
        names, weights = zip(*self.tower.named_parameters(), strict=True)
        try:
            with torch.enable_grad():
                tokens = self.tower(**self.sample()).last_hidden_state
                gradients = torch.autograd.grad(tokens.sum(), weights, allow_unused=True)
        except Exception as error:
            raise UserError(
                f"The tower {name!r} cannot be used for {self.part} ({tower_files.reason(error)});"
                " it takes a transformer that makes tokens of nothing else."
            ) from error
        if tokens.ndim != 3:
            raise UserError(
                f"The tower {name!r} gives {self.part} features of shape {tuple(tokens.shape)}, and tokens"
                " are (1, N, width); use a transformer."
            )
        used = {n for n, g in zip(names, gradients, strict=True) if g is not None}
        if absent := sorted(used & lacking):
            raise UserError(
                f"The weights of the tower {name!r} lack {', '.join(absent)}; use a complete copy."
            )
        for parameter_name, parameter in self.tower.named_parameters():
            parameter.requires_grad_(self.tuned and parameter_name in used)
        return tokens.shape[-1]


class PretrainedVision(Pretrained):
    """A vision transformer such as SigLIP's (Zhai et al., ICCV 2023) or DINOv2 (Oquab et al., TMLR 2024).

    Images are resized to the tower's size, whole, and their colors normalized as it was trained with.

    Args:
      name, embed_dim, tuned, source: see `Pretrained`.
      instructed: whether `forward` is given instructions, which scale and shift the features of tokens (FiLM,
        as in `vla.VisionEncoder`, but after the tower, which knows nothing of them).
    """

    part = "vision"
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        name: str,
        embed_dim: int,
        tuned: bool = False,
        source: dict[str, Any] | None = None,
        instructed: bool = False,
    ) -> None:
        super().__init__(name, embed_dim, tuned, source)
        with tower_files.checked():
            for key in ("mean", "std"):
                value = torch.tensor(self.source[key]).view(-1, 1, 1)
                self.register_buffer(key, value, persistent=False)
        self.film = nn.Linear(embed_dim, 2 * embed_dim) if instructed else None

    def sample(self) -> dict[str, torch.Tensor]:
        size = self.source["size"]
        return {"pixel_values": torch.zeros(1, 3, size, size)}

    def forward(
        self, images: torch.Tensor, instruction: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, 3, H, W) in [0, 1] and features (B, embed_dim) -> (B, N, embed_dim)."""
        size = (self.source["size"],) * 2
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
        tokens = self.projection(self.look(pixel_values=(images - self.mean) / self.std))
        if self.film is not None and instruction is not None:
            scale, shift = self.film(instruction).unsqueeze(1).chunk(2, dim=-1)
            tokens = tokens * (1 + scale) + shift
        return tokens


class PretrainedText(Pretrained):
    """A text transformer with its tokenizer; has what `language.SimpleLanguageEncoder` has.

    Towers see text as in their own training: SigLIP's in lower case and with its padding, which it reads; any
    other with the padding masked. Either way the tokens of a text do not depend on those beside it.

    Args:
      name, embed_dim, tuned, source: see `Pretrained`.
      max_len: tokens of an instruction; a longer one is cut off.
    """

    part = "text"
    padding = NOTHING

    def __init__(
        self,
        name: str,
        embed_dim: int,
        tuned: bool = False,
        max_len: int = 64,
        source: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(name, embed_dim, tuned, source)
        self.reads_padding = self.tower.config.model_type.startswith("siglip")
        most = getattr(self.tower.config, "max_position_embeddings", max_len)
        if max_len > most:
            raise UserError(
                f"max_text_len is {max_len}, and the tower {name!r} reads at most {most} tokens; lower it to"
                " that."
            )
        self.max_len, self.length = max_len, most if self.reads_padding else max_len
        with tower_files.checked():
            self.tokenizer = tower_files.tokenizer(self.source["tokenizer"])
        self.tokenizer.no_padding()
        # A mask that hides nothing in the whole batch is left out by transformers, for a kernel that may
        # round otherwise: where there is a mask, the last place of each row stays free.
        self.tokenizer.enable_truncation(max_len if self.reads_padding else max_len - 1)

    def sample(self) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.full((1, 2), self.source["padding"])}

    @torch.compiler.disable
    def tokenize(self, texts: list[str], device: torch.device) -> torch.Tensor:
        """(len(texts), max_len) int64, NOTHING after the end; at least one token of each is real."""
        rows = torch.full((len(texts), self.max_len), NOTHING)
        rows[:, 0] = self.source["padding"]  # stays where a tokenizer makes nothing of ""
        for row, text in zip(rows, texts, strict=True):
            # One at a time: threads of the tokenizer and processes that read images do not go together.
            ids = self.tokenizer.encode(text.lower() if self.reads_padding else text).ids
            row[: len(ids)] = torch.tensor(ids, dtype=torch.long)
        return rows.to(device)

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """(B, N) -> (B, N, embed_dim), N at most max_len."""
        n = token_ids.shape[1]
        ids = F.pad(token_ids, (0, self.length - n), value=NOTHING)
        real = ids != NOTHING
        mask = None if self.reads_padding else real.long()
        tokens = self.look(input_ids=ids.where(real, self.source["padding"]), attention_mask=mask)
        return self.projection(tokens[:, :n])
