"""transformers' attention interface: one place through which nearly all of its models call their attention,
eager, sdpa and flash alike, with the module, unpacked heads, scale, soft cap, sinks and position bias.

What each implementation makes of the same arguments differs, and is followed here: see `integrations/*_attention.py`
of transformers 5 and the models' own `eager_attention_forward`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from .. import masks
from ..map import AttentionMap
from ..masks import Mask
from . import dynamo
from .events import Call, Event, NotExpressibleError, Put
from .frames import seeing_here, suspended
from .functions import both, flex_mask, named, patched, sizes
from .masking import Masking, band, read_mask
from .mode import mode_off

__all__ = ["Answer", "from_interface", "install", "uninstall"]

Answer = Callable[[Call], Any]
_NAMES = ("module", "query", "key", "value", "attention_mask")
_lock = threading.Lock()
_installed: dict[str, Any] = {"count": 0}


def install(answer: Answer) -> None:
    """Have every attention call of transformers inside a running module go through `answer`, until `uninstall`.

    Does nothing where transformers has not been imported: then no model of it exists.
    """
    with _lock:
        _installed["count"] += 1
        kind = getattr(sys.modules.get("transformers.modeling_utils"), "AttentionInterface", None)
        if kind is None or "kind" in _installed:
            return
        original = kind.get_interface

        def get_interface(self: Any, attn_implementation: Any, *args: Any, **kwargs: Any) -> Any:
            function = original(self, attn_implementation, *args, **kwargs)
            return _seen(str(attn_implementation), function, answer) if seeing_here() else function

        _installed.update(kind=kind, original=original, patched=get_interface)
        kind.get_interface = get_interface


def uninstall() -> None:
    """Undo one `install`; the last one restores transformers and dynamo."""
    with _lock:
        _installed["count"] -= 1
        if _installed["count"] > 0:
            return
        dynamo.release()
        if "kind" in _installed:
            kind = _installed.pop("kind")
            if kind.__dict__.get("get_interface") is _installed["patched"]:
                kind.get_interface = _installed["original"]


def _seen(implementation: str, function: Callable[..., Any], answer: Answer) -> Callable[..., Any]:
    def attention(*args: Any, **kwargs: Any) -> Any:
        with suspended(), mode_off():
            result = function(*args, **kwargs)
        given = named(_NAMES, args, kwargs)
        module = given.get("module")
        if not isinstance(module, nn.Module):
            return result
        event, opened = partial(from_interface, implementation, given, result), partial(_opened, given, result)
        return answer(Call(module, result, event, opened))

    return attention


def _opened(given: dict[str, Any], result: Any) -> tuple[Tensor, Put]:
    output = _output(result, given["query"], given["value"])
    if output is None:
        raise NotExpressibleError("its attention function gives something else than (output, weights)")

    def put(other: Tensor, weights: AttentionMap | None) -> Any:
        other = other.transpose(1, 2).contiguous()
        if not isinstance(result, tuple):
            return other
        shown = result[1:]
        if weights is not None and shown and shown[0] is not None:
            table = isinstance(shown[0], Tensor)
            shown = (patched(shown[0], weights) if table else weights, *shown[1:])
        return (other, *shown)

    return output, put


def from_interface(implementation: str, given: dict[str, Any], result: Any = None) -> Event:
    """One call of an attention function of transformers.

    Raises:
        NotExpressibleError: paged caches, which update the keys inside the call.
    """
    module, q, k, v = given["module"], given["query"], given["key"], given["value"]
    if implementation.startswith("paged") or given.get("cache") is not None:
        raise NotExpressibleError("continuous batching with a paged cache")
    if q.ndim != 4:
        raise NotExpressibleError(f"transformers attention on queries with {q.ndim} axes")
    read = _mask(implementation, given)
    causal = read.causal or getattr(module, "is_causal", False) is True
    if causal and read.extent is not None and q.shape[2] <= read.extent < k.shape[2]:
        k, v = k[:, :, : read.extent], v[:, :, : read.extent]  # what follows is the unused rest of a static cache
        given = {**given, "key": k}
        read = _mask(implementation, given)
    shape = sizes(q, k)
    scaling, bias = given.get("scaling"), given.get("position_bias")
    if bias is not None:
        bias = bias if bias.shape[-1] == shape[3] else bias[..., : shape[3]]
        added = read_mask(bias, shape)
        read = Masking(both(read.mask, added.mask), _added(added.bias, read.bias), read.causal)
    return Event(
        q,
        k,
        v,
        scale=q.shape[-1] ** -0.5 if scaling is None else float(scaling),
        softcap=given.get("softcap"),
        mask=read.mask,
        bias=read.bias,
        sinks=given.get("s_aux"),
        kind="decoder" if causal or getattr(module, "is_decoder", False) is True else None,
        dropout=given.get("dropout") or 0.0,
        output=_output(result, q, v),
    )


def _output(result: Any, q: Tensor, v: Tensor) -> Tensor | None:
    """What the call gave, as (B, H, Q, V), if it has transformers' usual form."""
    out = result[0] if isinstance(result, tuple) and result else result
    if not isinstance(out, Tensor) or tuple(out.shape) != (q.shape[0], q.shape[2], q.shape[1], v.shape[-1]):
        return None
    return out.transpose(1, 2)


def _mask(implementation: str, given: dict[str, Any]) -> Masking:
    """What each implementation makes of `attention_mask` and the causal flags."""
    table, shape = given.get("attention_mask"), sizes(given["query"], given["key"])
    family = implementation.split("@")[-1].split("/")[-1].replace("-", "_").lower()
    flag = given.get("is_causal")
    causal = bool(getattr(given["module"], "is_causal", True) if flag is None else flag)
    if table is not None and not isinstance(table, Tensor):  # a BlockMask of FlexAttention
        return flex_mask(table.mask_mod, shape)
    if "flash" in family:
        window = given.get("sliding_window")
        left = None if window is None else int(window) - 1
        mine = band(shape, "end", left) if causal else _around(left, shape)
        padding = read_mask(table, shape, _from_padding).mask if table is not None else None
        return Masking(mask=both(mine, padding), causal=causal)
    if table is not None:
        return read_mask(table, shape)
    if family in ("eager", "flex_attention", "none") or not causal or shape[2] == 1:
        return Masking()
    return Masking(mask=band(shape, "start"), causal=True, extent=shape[2])


def _around(left: int | None, shape: tuple[int, int, int, int]) -> Mask | None:
    return None if left is None or left >= shape[3] - 1 else masks.window(left, left)


def _from_padding(t: Tensor) -> Tensor:
    """(B, K) with 1 = real -> (B, 1, 1, K); any other mask as it is."""
    return t.bool()[:, None, None, :] if t.ndim == 2 else t


def _added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b
