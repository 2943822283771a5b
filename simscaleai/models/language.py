"""Instructions as tokens, and a small transformer that reads them.

A word's number is a hash of its letters: the same in every process and on every machine, and a word that
no training text had still has one. Two words may share a number; with a vocabulary some ten times the
words in use that hardly happens.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import torch
from torch import nn

from simscaleai.models.transformer import Encoder, embedding

PADDING, START, FIRST_WORD = 0, 1, 2
_WORD = re.compile(r"[^\W_]+")


def tokenize(texts: Sequence[str], vocab_size: int, max_len: int) -> torch.Tensor:
    """(len(texts), max_len) int64: START, words in lower case, PADDING; longer texts are cut off."""
    rows = torch.full((len(texts), max_len), PADDING)
    for row, text in zip(rows, texts, strict=True):
        words = _WORD.findall(text.lower())[: max_len - 1]
        # Not `hash`, which differs between processes.
        hashes = [zlib.crc32(w.encode()) % (vocab_size - FIRST_WORD) for w in words]
        row[: len(words) + 1] = torch.tensor([START, *(FIRST_WORD + h for h in hashes)])
    return rows


class SimpleLanguageEncoder(nn.Module):
    """Word embeddings, positions and transformer layers.

    Args:
      vocab_size: of which two are no words.
      max_len: tokens of an instruction.
      embed_dim, num_heads, num_layers, dropout: of the transformer.

    Attributes:
      padding: what `tokenize` gives after the end of a text.
    """

    padding = PADDING

    def __init__(
        self,
        vocab_size: int = 1000,
        max_len: int = 64,
        embed_dim: int = 256,
        num_heads: int = 4,
        num_layers: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.vocab_size, self.max_len = vocab_size, max_len
        self.words = nn.Embedding(vocab_size, embed_dim)
        nn.init.normal_(
            self.words.weight, std=0.02
        )  # as the positions, so that neither drowns the other
        self.position = embedding(max_len, embed_dim)
        self.layers = Encoder(num_layers, embed_dim, num_heads, 4.0, dropout)

    @torch.compiler.disable
    def tokenize(self, texts: list[str], device: torch.device) -> torch.Tensor:
        """(len(texts), max_len) int64; the same for a text on every machine."""
        return tokenize(texts, self.vocab_size, self.max_len).to(device)

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """(B, N) -> (B, N, embed_dim); padding is looked at by nobody."""
        # The order of words counts: "the cube on the disc" is not "the disc on the cube".
        tokens = self.words(token_ids) + self.position[: token_ids.shape[1]]  # (B, N, D)
        return self.layers(tokens, token_ids != PADDING)
