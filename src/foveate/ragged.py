"""Nested tensors: batches of sequences of unequal length, without padding, attended to one by one.

Axes: B sequences, H heads, L length, V value width; j is the axis whose length differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .map import AttentionMap

__all__ = ["by_sequence", "is_nested"]


def is_nested(*tensors: Any) -> bool:
    """Whether any of these is a nested tensor."""
    return any(isinstance(t, Tensor) and t.is_nested for t in tensors)


def by_sequence(
    attention: Callable[..., tuple[Tensor, AttentionMap]], query: Any, key: Any, value: Any
) -> tuple[Tensor, tuple[AttentionMap, ...]]:
    """Call `attention` on each sequence: a nested output with the query's lengths, and the sequences' maps.

    Raises:
        ValueError: not all are nested with layout torch.jagged, another axis is ragged, or their numbers differ.
    """
    parts = [_sequences(name, t) for name, t in (("query", query), ("key", key), ("value", value))]
    counts = [len(p) for p in parts]
    if len(set(counts)) > 1:
        raise ValueError(f"query, key and value must hold as many sequences; got {counts[0]}, {counts[1]}, {counts[2]}")
    done = [attention(*sequence) for sequence in zip(*parts, strict=True)]
    outputs = [out.movedim(-2, 0) for out, _ in done]  # (L, H, V) or (L, V)
    ends = query.offsets()
    if query.lengths() is not None:  # it had holes, its output has none
        ends = torch.nn.functional.pad(query.lengths().cumsum(0), (1, 0))
    nested = torch.nested.nested_tensor_from_jagged(torch.cat(outputs), ends)
    return nested.transpose(1, 2) if query.ndim == 4 else nested, tuple(weights for _, weights in done)


def _sequences(name: str, t: Any) -> tuple[Tensor, ...]:
    if not is_nested(t) or t.layout is not torch.jagged:
        raise ValueError(f"query, key and value must all be nested tensors with layout=torch.jagged; {name} is not")
    if t.ndim not in (3, 4) or t._ragged_idx != t.ndim - 2:
        raise ValueError(
            f"a nested {name} must be (B, H, j, D) or (B, j, D), ragged in the axis before the last; got "
            f"{tuple(t.shape)}. x.transpose(1, 2) takes (B, j, H, D) there"
        )
    return tuple(t.unbind())
