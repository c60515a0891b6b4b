"""PyTorch's attention functions: scaled_dot_product_attention and flex_attention, by their arguments."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import masks
from ..map import AttentionMap
from ..masks import Mask
from .events import Event, NotExpressibleError, Put
from .masking import Masking, band, read_mask

__all__ = ["both", "flex_mask", "from_flex", "from_sdpa", "named", "open_flex", "open_sdpa", "patched", "sizes"]

_SDPA = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")


def named(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**dict(zip(names, args, strict=False)), **kwargs}


def from_sdpa(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Event:
    """`F.scaled_dot_product_attention`. Its causal flag aligns to the start and composes with the mask."""
    given = named(_SDPA, args, kwargs)
    q, k, v, table = given["query"], given["key"], given["value"], given.get("attn_mask")
    if q.is_nested or k.is_nested:
        raise NotExpressibleError("scaled_dot_product_attention of nested tensors")
    q, k, v, table = _four_axes(q, k, v, table)
    shape = sizes(q, k)
    read = read_mask(table, shape)
    mask, causal = read.mask, bool(given.get("is_causal"))
    if causal:
        mask = both(band(shape, "start"), mask)
    scale = given.get("scale")
    return Event(
        q,
        k,
        v,
        scale=q.shape[-1] ** -0.5 if scale is None else float(scale),
        mask=mask,
        bias=read.bias,
        kind="decoder" if causal or read.causal else None,
        dropout=given.get("dropout_p") or 0.0,
        output=output.reshape(*q.shape[:-1], v.shape[-1]) if len(q) == shape[0] else None,
    )


def open_sdpa(result: Tensor) -> tuple[Tensor, Put]:
    """(L, V) and (N, L, V) are one head; axes before the head axis are one batch."""
    if result.is_nested:
        raise NotExpressibleError("scaled_dot_product_attention of nested tensors")
    few = {2: (None, None), 3: (slice(None), None)}.get(result.ndim, ())
    output = result[few] if few else result.flatten(0, -4)
    return output, lambda other, _: other.reshape(result.shape)


def open_flex(result: Any) -> tuple[Tensor, Put]:
    """FlexAttention's inner operator gives (output, log-sum-exp, ...)."""
    return result[0], lambda other, _: (other, *result[1:])


def patched(shown: Tensor, weights: AttentionMap) -> Tensor:
    """Numbers (B, H, Q, K) that a caller is given as weights, with those of a map in their place; keys that the map
    leaves out (the unused rest of a cache) keep theirs."""
    new = weights.dense(limit=1 << 62).to(shown.dtype)
    return new if new.shape[-1] == shown.shape[-1] else torch.cat([new, shown[..., new.shape[-1] :]], dim=-1)


def sizes(q: Tensor, k: Tensor) -> tuple[int, int, int, int]:
    """(B, H, Q, K)"""
    return (max(q.shape[0], k.shape[0]), q.shape[1], q.shape[2], k.shape[2])


def _four_axes(q: Tensor, k: Tensor, v: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """(L, E) and (N, L, E) have one head; axes before the head axis become one batch."""
    if q.ndim == 4 and k.ndim == 4:
        return q, k, v, table
    if q.ndim == 2:
        return q[None, None], k[None, None], v[None, None], table
    if q.ndim == 3:
        return q[:, None], k[:, None], v[:, None], table[:, None] if table is not None and table.ndim == 3 else table
    lead = torch.broadcast_shapes(q.shape[:-3], k.shape[:-3])
    if table is not None and table.ndim > 3:
        table = table.expand(*lead, *table.shape[-3:]).flatten(0, -4)
    flat = [t.expand(*lead, *t.shape[-3:]).flatten(0, -4) for t in (q, k, v)]
    return flat[0], flat[1], flat[2], table


def flex_operators() -> tuple[Any, ...]:
    """FlexAttention's inner operator, if FlexAttention has been imported."""
    home = sys.modules.get("torch._higher_order_ops.flex_attention")
    return () if home is None else (home.flex_attention,)


def flex_given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the inner operator as `from_flex` takes them: its block mask is a tuple, the function last."""
    given = named(("query", "key", "value", "score_mod", "blocks", "scale"), args, kwargs)
    return {**given, "mask_mod": given["blocks"][-1]}


def from_flex(given: dict[str, Any], output: Tensor | None = None) -> Event:
    """A call of `flex_attention`, by its arguments. A `score_mod` that adds a bias is taken in, any other is not."""
    q, k, v, blocks = given["query"], given["key"], given["value"], given.get("block_mask")
    b, h, n, m = shape = sizes(q, k)
    mask_mod = given.get("mask_mod") if blocks is None else blocks.mask_mod
    found = Masking() if mask_mod is None else flex_mask(mask_mod, shape)
    bias, score_mod = None, given.get("score_mod")
    if score_mod is not None and getattr(score_mod, "__name__", "") != "_identity":
        if b * h * n * m > 1 << 26:
            raise NotExpressibleError("a score_mod over more than 64 million scores")
        grids = _grids(shape, q.device)
        zero = torch.zeros(shape, device=q.device)
        bias = _mod(score_mod, zero, grids)
        if not torch.allclose(_mod(score_mod, zero + 1.7, grids), bias + 1.7, atol=1e-4, rtol=1e-4):
            raise NotExpressibleError("a score_mod that does more than add a bias")
    scale = given.get("scale")
    return Event(
        q,
        k,
        v,
        scale=q.shape[-1] ** -0.5 if scale is None else float(scale),
        mask=found.mask,
        bias=bias,
        kind="decoder" if found.causal else None,
        output=output,
    )


def flex_mask(mask_mod: Callable[..., Tensor], shape: tuple[int, int, int, int]) -> Masking:
    """A FlexAttention predicate: recognised from its table where that is small enough, else kept as it is."""
    b, h, n, m = shape
    if b * h * n * m > 1 << 28:
        return Masking(mask=masks.where(mask_mod))
    return read_mask(_mod(mask_mod, None, _grids(shape, torch.device("cpu"))), shape)


def _grids(shape: tuple[int, int, int, int], device: torch.device) -> list[Tensor]:
    """Index tensors of batch, head, query and key that broadcast to `shape`."""
    at = enumerate(shape)
    return [torch.arange(s, device=device).view([-1 if i == j else 1 for j in range(4)]) for i, s in at]


def _mod(function: Callable[..., Tensor], score: Tensor | None, grids: list[Tensor]) -> Tensor:
    """A mask_mod or score_mod on whole index grids; mods that index tensors work elementwise too, or by vmap."""
    arguments = grids if score is None else [score, *grids]
    return torch.as_tensor(function(*arguments))


def both(a: Mask | None, b: Mask | None) -> Mask | None:
    return b if a is None else a if b is None else a & b
