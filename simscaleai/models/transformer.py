"""Transformer layers that the models share.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, with layer norm before each part and not after it,
which trains without warmup (Xiong et al., "On Layer Normalization in the Transformer Architecture", ICML
2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from simscaleai.errors import UserError


@dataclass(frozen=True)
class TransformerSettings:
    """The layers of a transformer.

    Attributes:
      embed_dim: width of a token.
      num_heads: attention heads, of which `embed_dim` is a multiple.
      num_layers: blocks.
      mlp_ratio: hidden width of the MLP, in widths of a token.
      dropout: probability of dropping attention weights and what each part adds.
    """

    embed_dim: int
    num_heads: int
    num_layers: int
    mlp_ratio: float = 4.0
    dropout: float = 0.0


class Attention(nn.Module):
    """Multi-head attention through PyTorch's fused kernels.

    Args:
      embed_dim: width of a token.
      num_heads: of which `embed_dim` is a multiple.
      dropout: probability of dropping an attention weight while training.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise UserError(
                f"embed_dim is {embed_dim}; it must be a multiple of num_heads {num_heads}."
            )
        self.num_heads, self.dropout = num_heads, dropout
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key_value = nn.Linear(embed_dim, 2 * embed_dim)
        self.output = nn.Linear(embed_dim, embed_dim)

    def forward(
        self, x: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Let x (B, N, D) attend to `context` (B, M, D), but not where `mask` (B, M) is False."""
        # (B, N, D) -> (B, heads, N, D / heads): heads are independent, like samples
        query = self.query(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        # Keys and values by one matrix product, (B, 2 heads, M, D / heads), then split.
        keys = self.key_value(context).unflatten(-1, (2 * self.num_heads, -1)).transpose(1, 2)
        key, value = keys.chunk(2, dim=1)  # (B, heads, M, D / heads) each
        attended = None if mask is None else mask[:, None, None, :]  # (B, 1, 1, M): for all queries
        mixed = F.scaled_dot_product_attention(
            query, key, value, attended, dropout_p=self.dropout if self.training else 0.0
        )  # (B, heads, N, D / heads)
        return self.output(mixed.transpose(1, 2).flatten(2))  # (B, N, D)


class Block(nn.Module):
    """Self-attention, cross-attention to a context if there is one, and an MLP; each with a skip connection.

    Args:
      embed_dim, num_heads: see `Attention`.
      mlp_ratio: hidden width of the MLP, in widths of a token.
      dropout: probability of dropping attention weights and outputs of each part.
      cross: whether there is cross-attention, and `forward` takes a context.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        cross: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dim)
        self.attention = Attention(embed_dim, num_heads, dropout)
        if cross:
            self.norm_cross = nn.LayerNorm(embed_dim)
            self.cross = Attention(embed_dim, num_heads, dropout)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.mlp = feed_forward(embed_dim, mlp_ratio, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        x: torch.Tensor,
        context: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, N, D) -> (B, N, D); `mask` (B, N) is False for tokens that are not attended to."""
        normed = self.norm1(x)  # (B, N, D), as everything below
        x = x + self.drop(self.attention(normed, normed, mask))
        if context is not None:
            x = x + self.drop(self.cross(self.norm_cross(x), context))
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    """`num_layers` blocks of self-attention, and the final norm that norm-first blocks need."""

    def __init__(
        self, num_layers: int, embed_dim: int, num_heads: int, mlp_ratio: float, dropout: float
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio, dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """(B, N, D) -> (B, N, D); `mask` (B, N) is False for tokens that are not attended to."""
        for block in self.blocks:
            x = block(x, mask=mask)
        return self.norm(x)


def feed_forward(embed_dim: int, mlp_ratio: float, dropout: float = 0.0) -> nn.Sequential:
    """Return the MLP of a block, applied to each token by itself."""
    hidden = int(embed_dim * mlp_ratio)
    return nn.Sequential(
        nn.Linear(embed_dim, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, embed_dim),
        nn.Dropout(dropout),
    )


def embedding(*shape: int) -> nn.Parameter:
    """Return learned tokens or positions, with a standard deviation of 0.02 as in BERT and ViT."""
    return nn.Parameter(0.02 * torch.randn(*shape))
