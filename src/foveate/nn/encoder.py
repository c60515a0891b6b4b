"""A pre-norm Transformer encoder (Vaswani et al. 2017; Xiong et al. 2020 for the place of the norms).

Axes: B batch, L length, M model width, F inner width of the feed-forward network.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..masks import Mask
from .attention import MultiHeadAttention

__all__ = ["Encoder", "EncoderLayer", "FeedForward"]


class FeedForward(nn.Module):
    """Two linear maps with a GELU between, at every position alike."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.widen = nn.Linear(width, inner)
        self.activation = nn.GELU()
        self.narrow = nn.Linear(inner, width)

    def forward(self, x_BLM: Tensor) -> Tensor:
        """(B, L, M) -> (B, L, M)."""
        out: Tensor = self.narrow(self.activation(self.widen(x_BLM)))
        return out


class EncoderLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, width: int, heads: int, inner: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, inner)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BLM: Tensor, *, mask: Mask | Any | None = None) -> Tensor:
        """(B, L, M) -> (B, L, M)."""
        x_BLM = x_BLM + self.dropout(self.attention(self.attention_norm(x_BLM), mask=mask))
        out: Tensor = x_BLM + self.dropout(self.feed_forward(self.feed_forward_norm(x_BLM)))
        return out


class Encoder(nn.Module):
    """A stack of `EncoderLayer`s and a last norm."""

    def __init__(self, layers: int, width: int, heads: int, inner: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, heads, inner, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BLM: Tensor, *, mask: Mask | Any | None = None) -> Tensor:
        """(B, L, M) -> (B, L, M)."""
        for layer in self.layers:
            x_BLM = layer(x_BLM, mask=mask)
        out: Tensor = self.norm(x_BLM)
        return out
