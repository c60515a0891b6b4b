"""Multi-head attention of PyTorch: modules with fused paths, which call no function that we could see.

`nn.MultiheadAttention` and `nn.TransformerEncoderLayer` have fused inference paths. Whatever path they take is left
alone; queries and keys are computed again from their inputs and weights.

Axes: N batch, L queries, S keys, E width of the model, H heads.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import masks
from ..map import AttentionMap
from ..masks import Mask
from .events import Event, NotExpressibleError, Put
from .functions import both, named, patched, sizes
from .masking import band, read_mask

__all__ = ["from_encoder_layer", "from_functional", "from_module", "is_stock", "open_functional"]

_STOCK = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)
_FORWARD = (
    "query",
    "key",
    "value",
    "key_padding_mask",
    "need_weights",
    "attn_mask",
    "average_attn_weights",
    "is_causal",
)


@dataclass(frozen=True)
class _Projection:
    """How queries, keys and values (in this order in `weights` and `biases`) come from the inputs."""

    heads: int
    weights: tuple[Tensor | None, ...]
    biases: tuple[Tensor | None, ...]
    bias_k: Tensor | None
    bias_v: Tensor | None
    add_zero: bool
    batch_first: bool

    @property
    def extra(self) -> int:
        """Keys that the module appends to those of the input."""
        return int(self.bias_k is not None) + int(self.add_zero)

    def __call__(self, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        """(L, E) or (L, N, E) or (N, L, E) inputs -> query, key, value as (N, H, L, E / H)."""
        made = []
        for x, w, b, appended in zip(inputs, self.weights, self.biases, (None, self.bias_k, self.bias_v), strict=True):
            assert w is not None
            if x.dim() == 2:
                x = x[None]
            elif not self.batch_first:
                x = x.transpose(0, 1)
            y = F.linear(x, w, b)
            if appended is not None:
                y = torch.cat([y, appended.expand(len(y), 1, -1)], dim=1)
            made.append(y.unflatten(-1, (self.heads, -1)).transpose(1, 2))
        if self.add_zero:
            made[1:] = [torch.cat([t, t.new_zeros(*t.shape[:2], 1, t.shape[3])], dim=2) for t in made[1:]]
        return made


def is_stock(module: nn.Module) -> bool:
    """Whether a module runs PyTorch's own forward that has a fused path."""
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in _STOCK)


def from_functional(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Event:
    """`F.multi_head_attention_forward`, (L, N, E) inputs or (L, E)."""
    given = _arguments(args, kwargs)
    if given["static_k"] is not None or given["static_v"] is not None:
        raise NotExpressibleError("multi_head_attention_forward with static_k or static_v")
    separate = (given["q_proj_weight"], given["k_proj_weight"], given["v_proj_weight"])
    projection = _Projection(
        heads=given["num_heads"],
        weights=separate if given["use_separate_proj_weight"] else given["in_proj_weight"].chunk(3),
        biases=_three(given["in_proj_bias"]),
        bias_k=given["bias_k"],
        bias_v=given["bias_v"],
        add_zero=given["add_zero_attn"],
        batch_first=False,
    )
    return _event(projection, given, given["dropout_p"] if given["training"] else 0.0)


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    bound = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def open_functional(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Put]:
    """What the heads of `F.multi_head_attention_forward` give before the projection that follows: the function itself
    is called, with the identity in the place of that projection."""
    given = _arguments(args, kwargs)
    weight, bias, heads = given["out_proj_weight"], given["out_proj_bias"], given["num_heads"]
    plain = {"out_proj_weight": torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)}
    read, shown = F.multi_head_attention_forward(
        **{**given, **plain, "out_proj_bias": None, "average_attn_weights": False}
    )
    batched = read.dim() == 3
    read_LNE = read if batched else read[:, None]

    def put(other_NHLD: Tensor, weights: AttentionMap | None) -> Any:
        merged = other_NHLD.permute(2, 0, 1, 3).flatten(2)
        out = F.linear(merged if batched else merged[:, 0], weight, bias)
        table = shown
        if table is not None and weights is not None:
            table = patched(table if batched else table[None], weights)
            table = table if batched else table[0]
        return out, table.mean(-3) if table is not None and given["average_attn_weights"] else table

    return read_LNE.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3), put


def from_module(module: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Event:
    """A call of `nn.MultiheadAttention`, whatever path it takes."""
    together = module.in_proj_weight
    projection = _Projection(
        heads=module.num_heads,
        weights=(module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
        if together is None
        else together.chunk(3),
        biases=_three(module.in_proj_bias),
        bias_k=module.bias_k,
        bias_v=module.bias_v,
        add_zero=module.add_zero_attn,
        batch_first=module.batch_first,
    )
    return _event(projection, named(_FORWARD, args, kwargs), module.dropout if module.training else 0.0)


def from_encoder_layer(layer: nn.TransformerEncoderLayer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Event:
    """A call of `nn.TransformerEncoderLayer` that took its fused path, which calls no self-attention module."""
    given = named(("src", "src_mask", "src_key_padding_mask", "is_causal"), args, kwargs)
    x = layer.norm1(given["src"]) if layer.norm_first else given["src"]
    mask, padding = given.get("src_mask"), given.get("src_key_padding_mask")
    return from_module(layer.self_attn, (x, x, x), {"attn_mask": mask, "key_padding_mask": padding})


def _three(bias: Tensor | None) -> tuple[Tensor | None, ...]:
    return (None,) * 3 if bias is None else bias.chunk(3)


def _event(projection: _Projection, given: dict[str, Any], dropout: float) -> Event:
    """A call of multi-head attention in our terms; `given` are the arguments that the module and function share."""
    inputs = given["query"], given["key"], given["value"]
    query, key, _ = inputs
    cross = key is not query and (key.shape != query.shape or key.data_ptr() != query.data_ptr())
    lengths = None
    if query.is_nested:
        lengths = torch.tensor([t.shape[0] for t in query.unbind()])
        inputs = tuple(t.to_padded_tensor(0.0) for t in inputs)
    q, k, v = projection(inputs)
    shape = sizes(q, k)
    hinted = given.get("is_causal", False) and given.get("key_padding_mask") is None
    if hinted and not given.get("need_weights", True):  # the function then drops the mask and takes the hint
        mask, bias, causal = band(shape, "start"), None, True
    else:
        mask, bias, causal = _masks(given.get("attn_mask"), given.get("key_padding_mask"), shape, projection.extra)
    if lengths is not None:
        mask = both(mask, masks.padding(lengths))
    kind = "cross" if cross else "decoder" if causal else None
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
        mask, causal = both(mask, read.mask), causal or read.causal
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
