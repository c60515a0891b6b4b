"""A Transformer decoder (Vaswani et al. 2017), with or without an encoder to read from, and with a cache.

Axes: B batch, L length, K length of the memory, M model width, N width of the memory, F inner width.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from .. import masks
from ..masks import Mask
from .attention import MultiHeadAttention
from .cache import Cache
from .encoder import Activation, FeedForward, MakesAttention, Norm, Sublayers, final_norm

__all__ = ["Decoder", "DecoderLayer"]

CAUSAL = masks.causal()  # one for all layers, which then work out only once what it means


class DecoderLayer(Sublayers):
    """Causal self-attention, attention to a memory if there is one, then a feed-forward network.

    Args:
        cross: whether it reads a memory.
        memory_width: N; default M.
        others: as in `EncoderLayer`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        inner: int,
        *,
        cross: bool = True,
        memory_width: int | None = None,
        dropout: float = 0.0,
        head_dropout: float = 0.0,
        norm: Norm = "pre",
        activation: Activation = "gelu",
        attention: MakesAttention | None = None,
    ) -> None:
        super().__init__(dropout, norm)
        self.attention_norm = nn.LayerNorm(width)
        plain = partial(MultiHeadAttention, width, heads, head_dropout=head_dropout)
        self.attention = (plain if attention is None else attention)()
        self.cross_attention_norm = nn.LayerNorm(width) if cross else None
        self.cross_attention = plain(key_width=memory_width) if cross else None
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, inner, activation=activation)

    def forward(
        self,
        x_BLM: Float[Tensor, "*B L M"],
        memory_BKN: Float[Tensor, "*B K N"] | None = None,
        *,
        mask: Mask | None = None,
        memory_mask: Mask | Any | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "*B L M"]:
        """(B, L, M) -> (B, L, M), of which no row reads a later one. `mask` hides more, such as padding.

        Raises:
            ValueError: a memory is missing, or given to a layer that reads none.
        """
        if (memory_BKN is None) != (self.cross_attention is None):
            state = "needs a memory" if memory_BKN is None else "reads no memory"
            raise ValueError(f"this decoder {state}: it was made with cross={self.cross_attention is not None}")
        seen = CAUSAL if mask is None else CAUSAL & mask
        x_BLM = self.around(self.attention_norm, lambda x: self.attention(x, mask=seen, cache=cache), x_BLM)
        cross = self.cross_attention
        if cross is not None and self.cross_attention_norm is not None:
            x_BLM = self.around(
                self.cross_attention_norm, lambda x: cross(x, memory_BKN, mask=memory_mask, cache=cache), x_BLM
            )
        return self.around(self.feed_forward_norm, self.feed_forward, x_BLM)


class Decoder(nn.Module):
    """A stack of `DecoderLayer`s, `options` being theirs, and, where they norm first, a last norm.

    `Decoder(..., cross=False)` is the body of a language model.
    """

    def __init__(self, layers: int, width: int, heads: int, inner: int, **options: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, inner, **options) for _ in range(layers))
        self.norm = final_norm(width, options)

    def forward(
        self,
        x_BLM: Float[Tensor, "*B L M"],
        memory_BKN: Float[Tensor, "*B K N"] | None = None,
        *,
        mask: Mask | None = None,
        memory_mask: Mask | Any | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "*B L M"]:
        """(B, L, M) -> (B, L, M); with a cache, x are the tokens that follow those it holds."""
        for layer in self.layers:
            x_BLM = layer(x_BLM, memory_BKN, mask=mask, memory_mask=memory_mask, cache=cache)
        out: Tensor = self.norm(x_BLM)
        return out
