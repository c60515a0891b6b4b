"""Some heads of a call: queries, keys, values, and whatever a head has of its own in mask, bias, score and normaliser.

Axes: B batch, H query heads, G key/value heads, Q queries, K keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..biases import Distances, Given
from ..masks import Mask
from ..masks.given import Dense, Where
from ..masks.layouts import BlockSparse
from ..masks.links import Links
from ..normalizers import Softmax
from ..normalizers.plain import Sigmoid
from ..scores import Placed, Score
from ..scores.table import Table
from .events import Event, NotExpressibleError

__all__ = ["of_heads"]

_HEAD_AXIS = {
    Dense: -3,
    Given: -3,
    Distances: 0,
    BlockSparse: 0,
    Links: 0,
    Table: 1,
    Softmax: 0,
    Sigmoid: 0,
}  # of their tensors


def of_heads(event: Event, heads: Sequence[int]) -> Event:
    """The same call with these query heads alone, in ascending order. Key heads that none of them reads are left out.

    Raises:
        NotExpressibleError: the call has no such head, or a part has numbers for each head in a way not known here.
    """
    total, groups = event.query.shape[1], event.key.shape[1]
    if heads[-1] >= total:
        raise NotExpressibleError(f"head {heads[-1]} was asked for; it has heads 0 to {total - 1}")
    readers = [h // (total // groups) for h in heads]
    once = list(dict.fromkeys(readers))
    even = len({readers.count(g) for g in once}) == 1  # else each head gets a copy of what it reads
    at, of_keys = (torch.tensor(n, device=event.query.device) for n in (list(heads), once if even else readers))
    parts = {name: _part(getattr(event, name), at, total) for name in ("mask", "bias", "sinks", "score", "normalizer")}
    return replace(
        event,
        query=event.query.index_select(1, at),
        key=event.key.index_select(1, of_keys),
        value=None if event.value is None else event.value.index_select(1, of_keys),
        output=None,
        weights=None,
        **parts,
    )


def _part(thing: Any, at: Tensor, total: int) -> Any:
    """A mask, bias, score or normaliser of these heads of `total`; raw tensors are (..., H, Q, K), or sinks (H,)."""
    if isinstance(thing, Tensor):
        return _picked(thing, 0 if thing.ndim == 1 else -3, at, total)
    if isinstance(thing, Where):
        return Where(_renumbered(thing, at))
    if not is_dataclass(thing) or isinstance(thing, type):
        return thing
    axis = _HEAD_AXIS.get(type(thing), 0 if isinstance(thing, Score) and thing.per_head else None)
    changed: dict[str, Any] = {}
    for field in fields(thing):
        value = getattr(thing, field.name)
        if not isinstance(value, Tensor):
            changed[field.name] = _part(value, at, total)
        elif axis is not None:
            changed[field.name] = _picked(value, axis, at, total)
        elif not _same_for_all(thing):
            raise NotExpressibleError(f"its {type(thing).__name__} may have numbers for each head; record all heads")
    return replace(thing, **changed) if changed else thing


def _same_for_all(thing: Any) -> bool:
    """Masks of lengths and documents know no heads, and a score says whether it does, unless it knows places."""
    return isinstance(thing, Mask) or (
        isinstance(thing, Score) and not isinstance(thing, Placed) and not thing.per_head
    )


def _picked(t: Tensor, axis: int, at: Tensor, total: int) -> Tensor:
    """These heads, where the tensor tells heads apart."""
    if t.ndim < (-axis if axis < 0 else axis + 1) or t.shape[axis] in (0, 1) or t.shape[axis] != total:
        return t
    return t.index_select(axis, at.to(t.device))


def _renumbered(mask: Where, at: Tensor) -> Any:
    """A predicate of one's own, asked by the heads' own numbers."""

    def predicate(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        found: Tensor = mask.function(b, at.to(h.device)[h], q, k)
        return found

    return predicate
