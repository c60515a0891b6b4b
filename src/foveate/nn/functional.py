"""PyTorch's own attention function, by `foveate.attention`: the same signature, and weights that can be watched.

Axes: N any leading axes, L queries, S keys, E width, V value width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import masks
from ..attend import attention

__all__ = ["scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention`, (N, L, E), (N, S, E), (N, S, V) -> (N, L, V).

    Where PyTorch gives NaN or the mean of all values, for a query that sees no key, this gives zeros.

    Args:
        attn_mask: booleans, True = may attend, or numbers to add, that broadcast to (N, L, S).
        dropout_p: applied whether or not a module trains, as in PyTorch; 1 gives zeros.
        is_causal: query i sees keys 0 to i, also where there are more keys than queries. With an `attn_mask` both hold,
            as in PyTorch's fused kernel for the CPU; PyTorch's other kernels and its documentation refuse the two.
        enable_gqa: the third axis from the end is one of heads, and several query heads share a key head.

    Raises:
        ValueError: a probability outside 0 to 1, or shapes that break a rule.
    """
    if not 0 <= dropout_p <= 1:
        raise ValueError(f"dropout_p must lie between 0 and 1; got {dropout_p}")
    if min(t.ndim for t in (query, key, value)) < 2:
        shapes = ", ".join(str(tuple(t.shape)) for t in (query, key, value))
        raise ValueError(f"query, key and value must have at least 2 axes, (..., length, width); got {shapes}")
    q, k, v = (_grouped if enable_gqa else _broadcast)(query, key, value)
    mask = masks.causal(align="start") if is_causal else None
    bias = None
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        allowed = masks.tensor(attn_mask)
        mask = allowed if mask is None else mask & allowed
    elif attn_mask is not None:
        bias = attn_mask
    kept = dropout_p if dropout_p < 1 else 0.0
    out: Tensor = attention(q, k, v, scale=scale, mask=mask, bias=bias, dropout=kept)[0]
    return out if dropout_p < 1 else out * 0.0


def _broadcast(*given: Tensor) -> list[Tensor]:
    """Leading axes broadcast, the third from the end too, which here is one like any other."""
    if len({t.shape[:-2] for t in given}) == 1:
        return list(given)
    try:
        lead = torch.broadcast_shapes(*(t.shape[:-2] for t in given))
    except RuntimeError:
        shapes = ", ".join(str(tuple(t.shape)) for t in given)
        raise ValueError(
            f"the leading axes of query, key and value must broadcast; got {shapes}. Heads that share keys need "
            "enable_gqa=True"
        ) from None
    return [t.expand(*lead, *t.shape[-2:]) for t in given]


def _grouped(query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
    """Heads are the third axis from the end; keys and values may have different numbers of them, as in PyTorch."""
    if min(t.ndim for t in (query, key, value)) < 3:
        raise ValueError("enable_gqa needs an axis of heads: (..., heads, length, width)")
    if key.shape[-3] != value.shape[-3] and not (query.shape[-3] % key.shape[-3] or query.shape[-3] % value.shape[-3]):
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], dim=-3) for t in (key, value))
    axes = max(t.ndim for t in (query, key, value))
    return [t.reshape((1,) * (axes - t.ndim) + tuple(t.shape)) for t in (query, key, value)]
