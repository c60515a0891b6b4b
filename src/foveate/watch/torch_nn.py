"""Attention of PyTorch itself: the functions, and the modules whose fused paths call no function we could see.

`nn.MultiheadAttention` and `nn.TransformerEncoderLayer` have fused inference paths. Whatever path they take is left
alone; queries and keys are computed again from their inputs and weights.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import masks
from ..masks import Mask
from .events import Event, NotExpressibleError
from .masking import Masking, band, read_mask

__all__ = ["from_encoder_layer", "from_flex", "from_functional", "from_module", "from_sdpa", "is_stock"]

_STOCK = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)
_SDPA = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")


def is_stock(module: nn.Module) -> bool:
    """Whether a module runs PyTorch's own forward that has a fused path."""
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in _STOCK)


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
        mask = _and(band(shape, "start"), mask)
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


def from_flex(given: dict[str, Any]) -> Event:
    """A call of `flex_attention`, by its arguments. A `score_mod` that adds a bias is taken in, any other is not."""
    q, k, v, blocks = given["query"], given["key"], given["value"], given.get("block_mask")
    b, h, n, m = shape = sizes(q, k)
    found = Masking() if blocks is None else flex_mask(blocks.mask_mod, shape)
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


def from_functional(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Event:
    """`F.multi_head_attention_forward`, (L, N, E) inputs or (L, E)."""
    bound = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs)
    bound.apply_defaults()
    return _project(**bound.arguments, batch_first=False)


def from_module(module: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Event:
    """A call of `nn.MultiheadAttention`, whatever path it takes."""
    names = ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask", "average_attn_weights")
    given = named((*names, "is_causal"), args, kwargs)
    return _project(
        given["query"],
        given["key"],
        given["value"],
        module.embed_dim,
        module.num_heads,
        module.in_proj_weight,
        module.in_proj_bias,
        module.bias_k,
        module.bias_v,
        module.add_zero_attn,
        key_padding_mask=given.get("key_padding_mask"),
        attn_mask=given.get("attn_mask"),
        need_weights=given.get("need_weights", True),
        is_causal=given.get("is_causal", False),
        q_proj_weight=module.q_proj_weight,
        k_proj_weight=module.k_proj_weight,
        v_proj_weight=module.v_proj_weight,
        batch_first=module.batch_first,
        dropout_p=module.dropout if module.training else 0.0,
    )


def from_encoder_layer(layer: nn.TransformerEncoderLayer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Event:
    """A call of `nn.TransformerEncoderLayer` that took its fused path, which calls no self-attention module."""
    given = named(("src", "src_mask", "src_key_padding_mask", "is_causal"), args, kwargs)
    x = layer.norm1(given["src"]) if layer.norm_first else given["src"]
    mask, padding = given.get("src_mask"), given.get("src_key_padding_mask")
    return from_module(layer.self_attn, (x, x, x), {"attn_mask": mask, "key_padding_mask": padding})


def _project(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    *_: Any,
    key_padding_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    need_weights: bool = True,
    is_causal: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    batch_first: bool = False,
    dropout_p: float = 0.0,
    **others: Any,
) -> Event:
    """Queries, keys and values of multi-head attention as (N, H, L, E / H), with its masks in our terms."""
    if others.get("static_k") is not None or others.get("static_v") is not None:
        raise NotExpressibleError("multi_head_attention_forward with static_k or static_v")
    cross = key is not query and (key.shape != query.shape or key.data_ptr() != query.data_ptr())
    batched = query.dim() == 3
    lengths = None
    if query.is_nested:
        lengths = torch.tensor([t.shape[0] for t in query.unbind()])
        query, key, value = (t.to_padded_tensor(0.0) for t in (query, key, value))
    weights: tuple[Tensor | None, ...]
    if in_proj_weight is not None and others.get("use_separate_proj_weight") is not True:
        weights = in_proj_weight.chunk(3)
    else:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    projected = []
    for x, w, b in zip((query, key, value), weights, biases, strict=True):
        assert w is not None
        x = x if batched else x[None]
        x = x.transpose(0, 1) if batched and not batch_first else x
        projected.append(F.linear(x, w, b))
    q, k, v = projected
    if bias_k is not None and bias_v is not None:
        k = torch.cat([k, bias_k.expand(len(k), 1, -1)], dim=1)
        v = torch.cat([v, bias_v.expand(len(v), 1, -1)], dim=1)
    q, k, v = (t.unflatten(-1, (num_heads, -1)).transpose(1, 2) for t in (q, k, v))
    if add_zero_attn:
        k, v = (torch.cat([t, t.new_zeros(*t.shape[:2], 1, t.shape[3])], dim=2) for t in (k, v))
    extra = int(bias_k is not None) + int(add_zero_attn)
    shape = sizes(q, k)
    hinted = is_causal and key_padding_mask is None and not need_weights
    if hinted:  # the function then drops the mask and takes the hint
        mask, bias, causal = band(shape, "start"), None, True
    else:
        mask, bias, causal = _masks(attn_mask, key_padding_mask, shape, extra)
    if lengths is not None:
        mask = _and(mask, masks.padding(lengths))
    kind = "cross" if cross else "decoder" if causal else None
    dropout = dropout_p if others.get("training", True) else 0.0
    return Event(q, k, v, q.shape[-1] ** -0.5, mask=mask, bias=bias, kind=kind, dropout=dropout)


def _masks(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, shape: tuple[int, int, int, int], extra: int
) -> tuple[Mask | None, Tensor | None, bool]:
    """Both masks of multi-head attention, in which True *hides*, as our mask and bias."""
    mask: Mask | None = None
    bias: Tensor | None = None
    causal = False
    for given, is_padding in ((attn_mask, False), (key_padding_mask, True)):
        if given is None:
            continue
        read = read_mask(given, shape, lambda t, pad=is_padding: _unhide(t, pad, shape, extra))
        mask, causal = _and(mask, read.mask), causal or read.causal
        if read.bias is not None:
            bias = read.bias if bias is None else bias + read.bias
    return mask, bias, causal


def _unhide(t: Tensor, is_padding: bool, shape: tuple[int, int, int, int], extra: int) -> Tensor:
    """A mask of multi-head attention -> (B|1, H|1, Q|1, K), True = may attend."""
    b, h, n, m = shape
    t = ~t if t.dtype == torch.bool else t
    if extra:  # keys that the module appends are visible
        t = F.pad(t, (0, extra), value=1.0 if t.dtype == torch.bool else 0.0)
    if is_padding:
        return t.reshape(-1, 1, 1, m)
    return t.reshape(b, h, n, m) if t.ndim == 3 else t


def _and(a: Mask | None, b: Mask | None) -> Mask | None:
    return b if a is None else a if b is None else a & b
