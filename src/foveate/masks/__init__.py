"""Masks: who may attend to what. True = may attend.

A mask is a predicate over (batch, head, query, key) in FlexAttention's `mask_mod` signature, plus what blocks it can
be live in. One definition serves the dense reference, the block loop, recordings and the viewer. Masks compose with
`&`, `|` and `~`:

    masks.causal() & masks.window(256)
    masks.causal() | masks.prefix(32)

Positions align to the end: query i sits at key position i + K - Q, so the last query sees every key of a causal mask.
`causal(align="start")` is PyTorch's `is_causal` instead. `where` and `tensor` get the plain indices.
"""

from .base import Coverage, Mask, everything
from .given import tensor, where
from .grids import neighbourhood
from .layouts import bigbird, block_sparse
from .positional import causal, prefix, window
from .sequences import documents, packed, padding
from .sparse import dilated, fixed, global_tokens, longformer, strided

__all__ = [
    "Coverage",
    "Mask",
    "bigbird",
    "block_sparse",
    "causal",
    "dilated",
    "documents",
    "everything",
    "fixed",
    "global_tokens",
    "longformer",
    "neighbourhood",
    "packed",
    "padding",
    "prefix",
    "strided",
    "tensor",
    "where",
    "window",
]
