"""Models of transformers that write their softmax by hand: BLIP, whose modules call no attention function.

Queries and keys are computed again around a module's forward, from its input and weights, or come from its cache. Its
own weights, which it gives out beside its output, tell whether they were understood.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from ..map import AttentionMap
from .events import Call, Event, NotExpressibleError, Put
from .functions import named, patched, sizes
from .masking import read_mask

__all__ = ["call_of"]

_TEXT = ("hidden_states", "attention_mask", "encoder_hidden_states", "encoder_attention_mask", "cache")


def call_of(module: nn.Module, result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """The call that a module has just made, if it is one that is known here."""
    kind = type(module)
    if not kind.__module__.startswith("transformers.models.blip."):
        return None
    if kind.__name__ == "BlipAttention":
        given = named(("hidden_states",), args, kwargs)
        return Call(
            module, result, partial(_picture, module, given, result), partial(_open_picture, module, given, result)
        )
    if kind.__name__ == "BlipTextSelfAttention":
        given = named(_TEXT, args, kwargs)
        return Call(module, result, partial(_text, module, given, result), partial(_open_text, module, result))
    return None


def _weights(result: Any) -> Tensor:
    """What a module gives out beside its output, (B, H, Q, K)."""
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Tensor) and result[1].ndim == 4):
        raise NotExpressibleError("it gives something else than (output, weights)")
    return result[1]


def _picture(module: Any, given: dict[str, Any], result: Any) -> Event:
    """BlipAttention: patches read patches."""
    q, k, v = module.qkv(given["hidden_states"]).unflatten(-1, (3, module.num_heads, -1)).permute(2, 0, 3, 1, 4)
    dropout = module.dropout.p if module.training else 0.0
    return Event(q, k, v, scale=float(module.scale), dropout=dropout, weights=_weights(result))


def _open_picture(module: Any, given: dict[str, Any], result: Any) -> tuple[Tensor, Put]:
    shown = _weights(result)
    *_, v = module.qkv(given["hidden_states"]).unflatten(-1, (3, module.num_heads, -1)).permute(2, 0, 3, 1, 4)

    def put(other: Tensor, weights: AttentionMap | None) -> Any:
        return module.projection(other.transpose(1, 2).flatten(2)), _shown(shown, weights)

    return shown @ v, put


def _text(module: Any, given: dict[str, Any], result: Any) -> Event:
    """BlipTextSelfAttention: words read words, or (cross-attention) what encodes the picture."""
    x, other = given["hidden_states"], given.get("encoder_hidden_states")
    q = _heads(module, module.query(x))
    cache = given.get("cache", given.get("past_key_values"))
    if cache is None:
        read = x if other is None else other
        k, v = _heads(module, module.key(read)), _heads(module, module.value(read))
    else:  # which has been written by now
        part = "self_attention_cache" if other is None else "cross_attention_cache"
        layer = getattr(cache, part, cache).layers[module.layer_idx]
        k, v = layer.keys, layer.values
    mask = given.get("attention_mask" if other is None else "encoder_attention_mask")
    found = read_mask(mask, sizes(q, k))
    return Event(
        q,
        k,
        v,
        scale=module.attention_head_size**-0.5,
        mask=found.mask,
        bias=found.bias,
        kind="cross" if other is not None else "decoder" if found.causal else None,
        weights=_weights(result),
        output=_of_heads(module, result),
        dropout=module.dropout.p if module.training else 0.0,
    )


def _open_text(module: Any, result: Any) -> tuple[Tensor, Put]:
    shown = _weights(result)

    def put(other: Tensor, weights: AttentionMap | None) -> Any:
        return other.transpose(1, 2).flatten(2), _shown(shown, weights)

    return _of_heads(module, result), put


def _of_heads(module: Any, result: Any) -> Tensor:
    """The output, (B, H, Q, V)."""
    out: Tensor = _heads(module, result[0])
    return out


def _heads(module: Any, x: Tensor) -> Any:
    """(B, L, H * D) -> (B, H, L, D)"""
    return x.unflatten(-1, (-1, module.attention_head_size)).transpose(1, 2)


def _shown(shown: Tensor, weights: AttentionMap | None) -> Tensor:
    return shown if weights is None else patched(shown, weights)
