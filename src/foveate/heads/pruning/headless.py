"""What transformers' modules do without heads, and how layers of T5 share a position bias while their heads differ.

Both are subclasses that a module changes to, so that parameters, hooks and `isinstance` stay, and a copy is right too.

Axes: B batch, Q queries, K keys, M model width, H heads that the shared bias has.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["OUTPUTS", "become", "is_changed", "plain"]

OUTPUTS = ("c_proj", "o_proj", "out_proj", "out_lin", "dense", "o", "proj")  # projections of what heads read
_MEMORIES = ("key_value_states", "encoder_hidden_states")
_here = threading.local()  # the whole bias that `compute_bias` made last in this thread


def become(module: nn.Module, kept: tuple[int, ...], total: int, *, shares_bias: bool) -> None:
    """Have a module of transformers run with these of its original heads.

    Args:
        shares_bias: whether other layers read the position bias that it hands on.
    """
    kind: type = plain(type(module))
    if not kept:
        kind = _with(_HeadlessSharing if shares_bias else _Headless, kind)
    elif shares_bias and len(kept) < total:
        kind = _with(_Sharing, kind)
    module.__class__ = kind
    vars(module).update({"kept_heads": kept, "heads_of_bias": total} if shares_bias else {})


def plain(kind: type) -> type:
    """The class that a module had before `become`."""
    found: type = kind.__dict__.get("_plain", kind)
    return found


def is_changed(kind: type) -> bool:
    return "_plain" in kind.__dict__


@functools.cache
def _with(behaviour: type, kind: type) -> type:
    return type(kind.__name__, (behaviour, kind), {"__module__": kind.__module__, "_plain": kind})


class _Headless:
    """Adds the bias of its output projection, and nothing else. Caches go on counting positions."""

    def forward(self, hidden_states: Tensor, *args: Any, **given: Any) -> tuple[Any, ...]:
        _remembered(self, hidden_states, args, given)
        return _nothing(self, hidden_states), None


class _HeadlessSharing:
    """The same for T5, where others may read the position bias that it makes."""

    def forward(
        self, hidden_states: Tensor, *args: Any, position_bias: Tensor | None = None, **given: Any
    ) -> tuple[Tensor, Tensor, None]:
        cache = _cache_in(args, given)
        past: Any = 0 if cache is None else cache.get_seq_length(self.layer_idx)  # type: ignore[attr-defined]
        past = past.clone() if isinstance(past, Tensor) else past  # of a static cache, which counts in place
        shape = hidden_states.shape[1], _remembered(self, hidden_states, args, given)
        if position_bias is None and self.has_relative_attention_bias:  # type: ignore[attr-defined]
            position_bias = self.compute_bias(*shape, device=hidden_states.device, past_seen_tokens=past)  # type: ignore[attr-defined]
        elif position_bias is None:
            position_bias = hidden_states.new_zeros(1, self.heads_of_bias, *shape)  # type: ignore[attr-defined]
        return _nothing(self, hidden_states), position_bias, None


class _Sharing:
    """T5 with some heads: reads those of the bias that all layers of a stack share, and hands on the whole of it."""

    def compute_bias(self, *args: Any, **given: Any) -> Tensor:
        _here.bias = super().compute_bias(*args, **given)
        return self._own(_here.bias)

    def forward(self, hidden_states: Tensor, *args: Any, position_bias: Tensor | None = None, **given: Any) -> Any:
        own = None if position_bias is None else self._own(position_bias)
        out, used, *rest = super().forward(hidden_states, *args, position_bias=own, **given)
        if position_bias is None and self.has_relative_attention_bias:  # type: ignore[attr-defined]
            position_bias = _here.__dict__.pop("bias")
        elif position_bias is None:
            position_bias = used.new_zeros(1, self.heads_of_bias, *used.shape[-2:])  # type: ignore[attr-defined]
        return out, position_bias, *rest

    def _own(self, bias_1HQK: Tensor) -> Tensor:
        return bias_1HQK.index_select(1, torch.tensor(self.kept_heads, device=bias_1HQK.device))  # type: ignore[attr-defined]


def _nothing(module: Any, x_BQM: Tensor) -> Tensor:
    """What a projection of no heads adds: its bias; with the dropout that follows it in GPT-2."""
    for name in OUTPUTS:
        projection = getattr(module, name, None)
        if projection is not None:
            weight = projection.weight
            out = x_BQM.new_zeros(
                *x_BQM.shape[:-1], weight.shape[0] if isinstance(projection, nn.Linear) else weight.shape[1]
            )
            out = out if projection.bias is None else out + projection.bias
            found: Tensor = module.resid_dropout(out) if hasattr(module, "resid_dropout") else out
            return found
    return x_BQM.new_zeros(*x_BQM.shape[:-1], 0)  # the projection lies outside, and adds its bias itself


def _remembered(module: Any, x_BQM: Tensor, args: tuple[Any, ...], given: dict[str, Any]) -> int:
    """Put blanks of width 1 where a cache would hold keys; how many it holds now."""
    memory = next((given[name] for name in _MEMORIES if given.get(name) is not None), None)
    read, cache = x_BQM if memory is None else memory, _cache_in(args, given)
    if cache is None:
        return int(read.shape[1])
    blank = read.new_zeros(len(read), 1, read.shape[1], 1)
    if hasattr(cache, "is_updated") and memory is not None:
        if not cache.is_updated.get(module.layer_idx):
            cache.cross_attention_cache.update(blank, blank, module.layer_idx)
            cache.is_updated[module.layer_idx] = True
        return int(read.shape[1])
    own = cache.self_attention_cache if hasattr(cache, "is_updated") else cache
    return int(own.update(blank, blank, module.layer_idx)[0].shape[-2])


def _cache_in(args: tuple[Any, ...], given: dict[str, Any]) -> Any:
    return next((c for c in (*args, *given.values()) if hasattr(c, "get_seq_length") and hasattr(c, "update")), None)
