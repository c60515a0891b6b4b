"""Multi-head attention (Vaswani et al. 2017, section 3.2.2) on `foveate.attention`.

Axes: B batch, Q queries, K keys, M model width, N and O widths of what keys and values are made from, H heads,
G key/value heads (G divides H), D head width.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..attend import attention
from ..map import AttentionMap
from ..masks import Mask
from .affine import Linear
from .cache import Cache
from .parts import Parts, merge_heads, split_heads

__all__ = ["MultiHeadAttention"]


class MultiHeadAttention(Parts):
    """Project, attend in H heads at once, project back.

    `attention(x)` is self-attention; `attention(x, memory)` reads from another sequence.

    Args:
        width: M, of queries and of the output.
        heads: H.
        groups: G, how many key/value heads there are; H / G queries share one (Ainslie et al. 2023); 1 is multi-query
            attention (Shazeer 2019). Default: H.
        head_width: D; default M / H.
        key_width, value_width: of what keys and values are made from; default M, and that of keys.
        bias: whether the projections add one.
        dropout: of weights, in training.
        head_dropout: of whole heads of a sequence, in training (DropHead, Zhou et al. 2020): no head is relied on
            alone, so heads can be pruned later.
        parts: `score`, `normalizer`, `mask`, `positions`, as in `Parts`.

    Raises:
        ValueError: widths or heads that do not divide.
        TypeError: parts of the wrong kind.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        groups: int | None = None,
        head_width: int | None = None,
        key_width: int | None = None,
        value_width: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        head_dropout: float = 0.0,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        if heads < 1 or (width % heads and head_width is None):
            raise ValueError(f"width must be a multiple of heads; got width {width}, heads {heads}")
        groups = heads if groups is None else groups
        if groups < 1 or heads % groups:
            raise ValueError(f"heads must be a multiple of groups; got heads {heads}, groups {groups}")
        for name, share in (("dropout", dropout), ("head_dropout", head_dropout)):
            if not 0 <= share < 1:
                raise ValueError(f"{name} must be at least 0 and less than 1; got {share}")
        self.width, self.heads, self.groups = width, heads, groups
        self.dropout, self.head_dropout = dropout, head_dropout
        self.head_width = width // heads if head_width is None else head_width
        key_width = width if key_width is None else key_width
        self.query = Linear(width, heads * self.head_width, bias)
        self.key = Linear(key_width, groups * self.head_width, bias)
        self.value = Linear(key_width if value_width is None else value_width, groups * self.head_width, bias)
        self.output = Linear(heads * self.head_width, width, bias)

    def forward(
        self,
        x_BQM: Float[Tensor, "*B Q M"],
        memory_BKN: Float[Tensor, "*B K N"] | None = None,
        values_BKO: Float[Tensor, "*B K O"] | None = None,
        *,
        mask: Mask | Any | None = None,
        bias: Any | None = None,
        cache: Cache | None = None,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, AttentionMap]:
        """(B, Q, M), and (B, K, N) if the keys are elsewhere -> (B, Q, M), or that and its `AttentionMap`.

        Args:
            memory_BKN: what keys are made from; default: the queries' own sequence.
            values_BKO: what values are made from; default: what keys are.
            mask, bias: as in `fv.attention`, (..., H, Q, K); K counts what a cache holds.
            cache: self-attention adds its keys and values and reads all so far; cross-attention makes them once.
            return_weights: also the weights, which cost nothing until they are looked at.

        Raises:
            ValueError: weights of a module whose heads were all pruned.
        """
        if not self.heads:
            return self._headless(x_BQM, memory_BKN is None, cache, return_weights)
        memory = x_BQM if memory_BKN is None else memory_BKN
        values = memory if values_BKO is None else values_BKO

        def make() -> tuple[Tensor, Tensor]:
            return split_heads(self.key(memory), self.groups), split_heads(self.value(values), self.groups)

        q = split_heads(self.query(x_BQM), self.heads)
        if memory is x_BQM and values is x_BQM:
            q, k, v = self._read(q, *make(), cache)
        else:
            k, v = make() if cache is None or values is not memory else cache.once(self, memory, make)
            q = self.rotated(q, k.shape[-2] - q.shape[-2], k.shape[-2])
            k = self.rotated(k, 0, k.shape[-2])
        dropout = self.dropout if self.training else 0.0
        out_BHQD, weights = attention(q, k, v, dropout=dropout, **self.options(mask, bias))
        if self.training and self.head_dropout:
            out_BHQD = out_BHQD * F.dropout(out_BHQD.new_ones(*out_BHQD.shape[:-2], 1, 1), self.head_dropout)
        out_BQM: Tensor = self.output(merge_heads(out_BHQD))
        return (out_BQM, weights) if return_weights else out_BQM

    def _read(self, q: Tensor, k: Tensor, v: Tensor, cache: Cache | None) -> tuple[Tensor, Tensor, Tensor]:
        """Turned queries, and keys and values of all positions so far."""
        first = 0 if cache is None else cache.length_of(self)
        length = first + q.shape[-2]
        changing = self.rotates and getattr(self.positions, "needs_length", False)
        q = self.rotated(q, first, length)
        if cache is None:
            return q, self.rotated(k, 0, length), v
        if changing:  # how keys turn depends on the length of the text, so they are kept as they were
            k, v = cache.append(self, k, v)
            return q, self.rotated(k, 0, length), v
        k, v = cache.append(self, self.rotated(k, first, length), v)
        return q, k, v

    def _headless(self, x_BQM: Tensor, reads_itself: bool, cache: Cache | None, return_weights: bool) -> Tensor:
        """What is left where all heads were pruned: the bias of the output. A cache goes on counting positions."""
        if return_weights:
            raise ValueError("all heads of this attention were pruned, so it has no weights")
        if cache is not None and reads_itself:
            cache.append(self, x_BQM.new_zeros(*x_BQM.shape[:-1], 1))
        out = x_BQM.new_zeros(*x_BQM.shape[:-1], self.width)
        return out if self.output.bias is None else out + self.output.bias

    def extra_repr(self) -> str:
        groups = "" if self.groups == self.heads else f", groups={self.groups}"
        return f"width={self.width}, heads={self.heads}{groups}"
