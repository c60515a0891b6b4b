"""Multi-head latent attention (DeepSeek-V2, 2024, section 2.1): keys and values of all heads come from one short vector
per token, and only that is cached.

Axes: B batch, L new positions, Q queries, K keys, M model width, H heads, D head width, R rotary width, C latent width,
P latent width of queries.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..attend import attention
from ..map import AttentionMap
from ..masks import Mask
from ..positions import Rotary
from .cache import Cache
from .parts import Parts, merge_heads, split_heads

__all__ = ["LatentAttention"]


class LatentAttention(Parts):
    """Self-attention whose keys and values are made from a latent vector of `latent_width` numbers per token.

    With a cache, tokens that follow a text attend to the latent vectors themselves: what makes keys goes to the
    query's side, what makes values to the output's (the paper's "absorbed" form). The weights are the same.

    Args:
        width: M, of input and output.
        heads: H.
        latent_width: C, of what keys and values are made from.
        query_latent_width: P, of what queries are made from; None: they are made from the input.
        head_width: D; default M / H.
        rotary_width: R, how many numbers beside them are turned by their positions: each head's in the query, and one
            set for all heads in the key. 0: none.
        dropout: of weights, in training.
        positions: how those are turned.
        parts: `score` (a scaled product), `normalizer`, `mask`, as in `Parts`.

    Raises:
        ValueError: widths that do not fit.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        latent_width: int,
        query_latent_width: int | None = None,
        head_width: int | None = None,
        rotary_width: int = 0,
        dropout: float = 0.0,
        positions: Rotary | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(positions=Rotary() if positions is None else positions, **parts)
        if heads < 1 or (width % heads and head_width is None):
            raise ValueError(f"width must be a multiple of heads; got width {width}, heads {heads}")
        if rotary_width < 0 or rotary_width % 2:
            raise ValueError(f"the rotary width must be even; got {rotary_width}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1; got {dropout}")
        self.width, self.heads, self.dropout, self.rotary_width = width, heads, dropout, rotary_width
        self.head_width = width // heads if head_width is None else head_width
        self.latent_width, each = latent_width, heads * self.head_width
        self.query_latent: nn.Module = nn.Identity()
        if query_latent_width is not None:
            self.query_latent = nn.Sequential(
                nn.Linear(width, query_latent_width, False), nn.RMSNorm(query_latent_width)
            )
        self.query = nn.Linear(query_latent_width or width, each + heads * rotary_width, False)
        self.latent = nn.Linear(width, latent_width, False)
        self.latent_norm = nn.RMSNorm(latent_width)
        self.key = nn.Linear(latent_width, each, False)
        self.value = nn.Linear(latent_width, each, False)
        self.rotary_key = nn.Linear(width, rotary_width, False) if rotary_width else None
        self.output = nn.Linear(each, width, False)

    def forward(
        self,
        x_BLM: Float[Tensor, "*B L M"],
        *,
        mask: Mask | Any | None = None,
        bias: Any | None = None,
        cache: Cache | None = None,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, AttentionMap]:
        """(B, L, M) -> (B, L, M), or that and its `AttentionMap`; arguments as in `MultiHeadAttention`."""
        first = 0 if cache is None else cache.length_of(self)
        q_BHLD, q_BHLR = split_heads(self.query(self.query_latent(x_BLM)), self.heads).split(
            [self.head_width, self.rotary_width], dim=-1
        )
        c_B1KC, k_B1KR = self._memory(x_BLM, cache, first)
        q_BHLR = self._turned(q_BHLR, first, c_B1KC.shape[-2])
        dropout = self.dropout if self.training else 0.0
        options = self.options(mask, bias)
        options.update(scale=(self.head_width + self.rotary_width) ** -0.5, dropout=dropout)
        if first:
            w_HDC = self.key.weight.unflatten(0, (self.heads, self.head_width))
            q = torch.cat([q_BHLD @ w_HDC, q_BHLR], dim=-1)
            read_BHLC, weights = attention(q, torch.cat([c_B1KC, k_B1KR], dim=-1), c_B1KC, **options)
            out_BHLD = read_BHLC @ self.value.weight.unflatten(0, (self.heads, self.head_width)).mT
        else:
            k_BHKD, v_BHKD = (split_heads(layer(c_B1KC[..., 0, :, :]), self.heads) for layer in (self.key, self.value))
            k = torch.cat([k_BHKD, k_B1KR.expand(*k_BHKD.shape[:-1], self.rotary_width)], dim=-1)
            out_BHLD, weights = attention(torch.cat([q_BHLD, q_BHLR], dim=-1), k, v_BHKD, **options)
        out_BLM: Tensor = self.output(merge_heads(out_BHLD))
        return (out_BLM, weights) if return_weights else out_BLM

    def _memory(self, x_BLM: Tensor, cache: Cache | None, first: int) -> tuple[Tensor, Tensor]:
        """Latent vectors (B, 1, K, C) and turned keys (B, 1, K, R) of all positions so far."""
        c = self.latent_norm(self.latent(x_BLM)).unsqueeze(-3)
        k = c[..., :0] if self.rotary_key is None else self.rotary_key(x_BLM).unsqueeze(-3)
        length = first + x_BLM.shape[-2]
        if not getattr(self.positions, "needs_length", False):
            k = self._turned(k, first, length)
            return (c, k) if cache is None else cache.append(self, c, k)  # type: ignore[return-value]
        if cache is not None:
            c, k = cache.append(self, c, k)
        return c, self._turned(k, 0, length)

    def _turned(self, x_BHLR: Tensor, first: int, length: int) -> Tensor:
        return self.rotated(x_BHLR, first, length) if self.rotary_width else x_BHLR

    def extra_repr(self) -> str:
        return f"width={self.width}, heads={self.heads}, latent_width={self.latent_width}"
