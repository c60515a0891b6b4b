"""Masks that show each row one interval of keys, as two numbers a row: what a kernel can skip by, without any table.

Masks that show it a few (sinks and a window) are several of these together.

Axes: B batch, H heads, Q queries, K keys.
"""

from __future__ import annotations

from functools import singledispatch

import torch
from jaxtyping import Int
from torch import Tensor

from ..shapes import Geometry
from .base import And, Everything, Mask, Not, Or
from .intervals import Intervals
from .positional import Band, Prefix, ShiftedBand
from .sequences import Documents, Packed, Padding

__all__ = ["intervals", "spans"]

CPU = torch.device("cpu")
Spans = tuple[Int[Tensor, "B H Q"], Int[Tensor, "B H Q"]]
MOST = 8  # intervals of a row
_KEPT = "_spans"


def intervals(mask: Mask, g: Geometry) -> list[Spans] | None:
    """Each row's keys as at most `MOST` intervals that may overlap, each as `spans` has it; None where it is no such
    mask."""
    one = spans(mask, g)
    if one is not None:
        return [one]
    if isinstance(mask, Not):
        hidden = spans(mask.inner, g)
        if hidden is None:
            return None
        return [_bounded(_number(0), hidden[0], g), _bounded(hidden[1], _number(g.keys), g)]
    if not isinstance(mask, And | Or):
        return None
    left, right = intervals(mask.left, g), intervals(mask.right, g)
    if left is None or right is None:
        return None
    if isinstance(mask, Or):
        found = left + right
    else:
        found = [_bounded(torch.maximum(a, c), torch.minimum(b, d), g) for a, b in left for c, d in right]
    return found if len(found) <= MOST else None


def spans(mask: Mask, g: Geometry) -> Spans | None:
    """Each row's keys as one interval [first, last), on the CPU, each axis of full size or 1; an empty one is [0, 0).

    None: this mask is not known to be such, and must be asked for blocks. What was found for the last geometry is kept
    in the mask: the layers of a decoder ask for the same, token by token, where it costs as much as their arithmetic.
    """
    kept: tuple[Geometry, Spans | None] | None = vars(mask).get(_KEPT)
    if kept is None or kept[0] != g:
        kept = vars(mask)[_KEPT] = g, _spans(mask, g)
    return kept[1]


@singledispatch
def _spans(mask: Mask, g: Geometry) -> Spans | None:
    return None


@_spans.register
def _(mask: Everything, g: Geometry) -> Spans | None:
    return _bounded(_number(0), _number(g.keys), g)


@_spans.register
def _(mask: Band, g: Geometry) -> Spans | None:
    place = torch.arange(g.queries, device=CPU).reshape(1, 1, -1) + (g.offset if mask.align == "end" else 0)
    return _around(place, mask.left, mask.right, g)


@_spans.register
def _(mask: ShiftedBand, g: Geometry) -> Spans | None:
    place = torch.arange(g.queries, device=CPU) + mask.offset.detach().cpu().reshape(-1, 1, 1)
    return _around(place, mask.left, mask.right, g)


@_spans.register
def _(mask: Prefix, g: Geometry) -> Spans | None:
    return _bounded(_number(0), _number(mask.length), g)


@_spans.register
def _(mask: Padding, g: Geometry) -> Spans | None:
    length = mask.lengths.detach().cpu().reshape(-1, 1, 1)
    if mask.side == "left":
        return _bounded(g.keys - length, torch.full_like(length, g.keys), g)
    return _bounded(torch.zeros_like(length), length, g)


@_spans.register
def _(mask: Intervals, g: Geometry) -> Spans | None:
    return _bounded(mask.first.detach().cpu()[:, None], mask.last.detach().cpu()[:, None], g)


@_spans.register
def _(mask: Documents, g: Geometry) -> Spans | None:
    ids = mask.ids.detach().cpu().reshape(-1, mask.ids.shape[-1])
    starts = torch.ones_like(ids, dtype=torch.bool)
    starts[:, 1:] = ids[:, 1:] != ids[:, :-1]
    for row, start in zip(ids, starts, strict=True):
        if len(torch.unique(row)) != int(start.sum()):  # a document comes back after another one
            return None
    here = torch.arange(g.keys, device=CPU).expand_as(ids)
    first = torch.where(starts, here, 0).cummax(-1).values
    ends = torch.cat([starts[:, 1:], torch.ones_like(starts[:, :1])], -1)
    last = torch.where(ends, here + 1, g.keys).flip(-1).cummin(-1).values.flip(-1)
    place = torch.arange(g.queries, device=CPU) + g.offset
    inside, place = place >= 0, place.clamp(min=0)
    return _bounded(first[:, None, place], torch.where(inside, last[:, place], 0)[:, None], g)


@_spans.register
def _(mask: Packed, g: Geometry) -> Spans | None:
    lengths = mask.query_lengths.detach().cpu(), mask.key_lengths.detach().cpu()
    of_query = torch.arange(len(lengths[0]), device=CPU).repeat_interleave(lengths[0])
    q_ends, k_ends = (t.cumsum(0)[of_query] for t in lengths)
    place = torch.arange(g.queries, device=CPU) + k_ends - q_ends
    first, last = _around(place.reshape(1, 1, -1), mask.left, mask.right, g)
    return _bounded(torch.maximum(first, k_ends - lengths[1][of_query]), torch.minimum(last, k_ends), g)


@_spans.register
def _(mask: And, g: Geometry) -> Spans | None:
    a, b = spans(mask.left, g), spans(mask.right, g)
    if a is None or b is None:
        return None
    return _bounded(torch.maximum(a[0], b[0]), torch.minimum(a[1], b[1]), g)


@_spans.register
def _(mask: Or, g: Geometry) -> Spans | None:
    a, b = spans(mask.left, g), spans(mask.right, g)
    if a is None or b is None:
        return None
    no_a, no_b = a[0] >= a[1], b[0] >= b[1]
    touch = torch.maximum(a[0], b[0]) <= torch.minimum(a[1], b[1])
    if not bool((no_a | no_b | touch).all()):
        return None
    first = torch.where(no_a, b[0], torch.where(no_b, a[0], torch.minimum(a[0], b[0])))
    return _bounded(first, torch.maximum(a[1], b[1]), g)


@_spans.register
def _(mask: Not, g: Geometry) -> Spans | None:
    a = spans(mask.inner, g)
    if a is None:
        return None
    first, last = a
    from_start, to_end = first == 0, last == g.keys
    if not bool((from_start | to_end).all()):
        return None
    zero, keys = torch.zeros_like(first), torch.full_like(last, g.keys)
    return _bounded(torch.where(from_start, last, zero), torch.where(from_start, keys, first), g)


def _number(n: int) -> Tensor:
    return torch.full((1, 1, 1), n, dtype=torch.int64, device=CPU)


def _around(place: Tensor, left: int | None, right: int | None, g: Geometry) -> Spans:
    """Keys from `left` before to `right` after each row's own place."""
    first = torch.zeros_like(place) if left is None else place - left
    last = torch.full_like(place, g.keys) if right is None else place + right + 1
    return _bounded(first, last, g)


def _bounded(first: Tensor, last: Tensor, g: Geometry) -> Spans:
    """Within the keys, and [0, 0) where empty."""
    first, last = torch.broadcast_tensors(first.clamp(0, g.keys), last.clamp(0, g.keys))
    empty = first >= last
    return first.masked_fill(empty, 0), last.masked_fill(empty, 0)
