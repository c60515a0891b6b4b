"""From the mask tensors that models pass around to what they mean: causal, window, padding, or just a table.

A mask of n x n booleans for each call would cost more than the queries and keys. Nearly all of them are a band of
keys around the diagonal, cut by the padding of each sequence; those are recognised and kept as a description. The
description is used only if it equals the tensor everywhere.

A float mask that holds nothing but 0 and numbers at or below its dtype's minimum is a boolean mask.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .. import masks
from ..masks import Mask

__all__ = ["Masking", "band", "forget", "read_mask"]

_BLOCK = 1 << 22  # entries compared at a time


@dataclass(frozen=True)
class Masking:
    """What a mask tensor means: who may attend, and numbers to add. Either may be None.

    `extent` is how many keys there are up to the last one that any query sees, if that is known.
    """

    mask: Mask | None = None
    bias: Tensor | None = None
    causal: bool = False
    extent: int | None = None


@dataclass
class _Memory(threading.local):
    """Results by tensor identity, so that a mask shared by all layers is read once. The tensors are held, so that
    their identities stay theirs, until the outermost module returns."""

    known: dict[tuple, tuple[Tensor, Masking]] = field(default_factory=dict)


_memory = _Memory()


def forget() -> None:
    """Drop what is known of this thread's mask tensors."""
    _memory.known.clear()


def read_mask(
    given: Tensor | None,
    shape: tuple[int, int, int, int],
    form: Callable[[Tensor], Tensor] | None = None,
) -> Masking:
    """The meaning of a boolean (True = may attend) or additive mask that broadcasts to (B, H, Q, K).

    `form` brings a mask of another convention into that form; it must depend on `shape` alone.
    """
    if given is None:
        return Masking()
    version = 0 if given.is_inference() else given._version
    key = (id(given), version, shape, getattr(form, "__code__", None), getattr(form, "__defaults__", None))
    if key not in _memory.known:
        with torch.inference_mode(False), torch.no_grad():
            t = given.detach()
            _memory.known[key] = (given, _read(_canonical(t if form is None else form(t), shape), shape))
    found = _memory.known[key][1]
    if found.bias is not None and given.requires_grad and torch.is_grad_enabled():  # whoever computes with it
        found = replace(found, bias=_canonical(given if form is None else form(given), shape))
    return found


def band(shape: tuple[int, int, int, int], align: str = "end", left: int | None = None) -> Mask | None:
    """A causal mask, `left` keys wide at most beside the query's own; None where it hides nothing.

    `align="start"` is PyTorch's: query i sees keys up to i, whatever the number of keys.
    """
    _, _, queries, keys = shape
    if queries == keys:
        align = "end"
    if align == "end" and queries == 1 and (left is None or left >= keys - 1):
        return None
    mask = masks.causal() if align == "end" else masks.causal(align="start")
    return mask if left is None or left >= keys - 1 else mask & masks.window(left, 0)


def _canonical(given: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Four axes, of which expanded ones hold one entry, and as many keys as there are."""
    t = given.reshape((1,) * (4 - given.ndim) + tuple(given.shape))
    for axis in range(4):  # an expanded axis holds one entry
        if t.shape[axis] > 1 and t.stride(axis) == 0 and axis != 3:
            t = t.narrow(axis, 0, 1)
    if t.shape[-1] > shape[3]:  # made for a longer cache than there are keys
        t = t[..., : shape[3]]
    return t


def _read(t: Tensor, shape: tuple[int, int, int, int]) -> Masking:
    if t.dtype != torch.bool:
        hidden = t <= torch.finfo(t.dtype).min
        if not bool(((t == 0) | hidden).all()):
            return Masking(bias=t.clone())
        t = ~hidden
    if bool(t.all()):
        return Masking()
    columns = t.flatten(0, 2).any(0).nonzero()
    extent = int(columns[-1]) + 1 if t.shape[3] == shape[3] and len(columns) else None
    found = _recognise(t, shape) if t.shape[1] == 1 else None
    if found is None:
        return Masking(mask=masks.tensor(t.clone()), extent=extent)
    mask, causal = found
    return Masking(mask=mask, causal=causal, extent=extent)


def _recognise(t: Tensor, shape: tuple[int, int, int, int]) -> tuple[Mask | None, bool] | None:
    """(B|1, 1, Q|1, K) booleans -> an equal mask and whether it is causal, or None."""
    table = t[:, 0].cpu()
    table = table.expand(-1, -1, shape[3])
    seen = table.any(1)  # keys that any query sees: (B|1, K)
    padding = _padding(seen, shape[0])
    if all(torch.equal(rows, visible.expand_as(rows)) for rows, visible in zip(table, seen, strict=True)):
        return padding, False
    if table.shape[1] == 1:
        return None
    everything = torch.ones_like(seen)
    for align, left, right in _bands(table):
        for visible, cut in ((everything, None), (seen, padding)):
            if _is_band(table, visible, align, left, right):
                strip = masks.window(left, right) if left is not None and right else band(shape, align, left)
                return _both(strip, cut), right == 0
    return None


def _bands(table: Tensor) -> Iterator[tuple[str, int | None, int]]:
    """(align, left, right) of the bands that a table may be, the cheapest to compare first."""
    yield "end", None, 0
    if table.shape[1] != table.shape[2]:
        yield "start", None, 0
    left, right = _reach(table)
    if left >= 0 and right >= 0:
        yield "end", left, right


def _gaps(table: Tensor, align: str = "end") -> Iterator[tuple[slice, Tensor]]:
    """Key position minus query position for some rows at a time, (R, K) int32."""
    queries, keys = table.shape[1:]
    offset = keys - queries if align == "end" else 0
    columns = torch.arange(keys, dtype=torch.int32)
    step = max(1, _BLOCK // max(1, keys))
    for start in range(0, queries, step):
        rows = torch.arange(start, min(start + step, queries), dtype=torch.int32)
        yield slice(start, start + len(rows)), columns - (rows[:, None] + offset)


def _reach(table: Tensor) -> tuple[int, int]:
    """How far any row sees to the left and to the right of its own position; negative if it never does."""
    left = right = -table.shape[2]
    for rows, gap in _gaps(table):
        for some in table[:, rows]:
            reach = gap[some]
            if reach.numel():
                left, right = max(left, -int(reach.min())), max(right, int(reach.max()))
    return left, right


def _is_band(table: Tensor, seen: Tensor, align: str, left: int | None, right: int) -> bool:
    """Whether the table is exactly the band from `left` before to `right` after, cut by the visible keys."""
    for rows, gap in _gaps(table, align):
        inside = gap <= right if left is None else (gap >= -left) & (gap <= right)
        for some, visible in zip(table[:, rows], seen, strict=True):
            if not torch.equal(some, inside & visible):
                return False
    return True


def _padding(seen: Tensor, batch: int) -> Mask | None:
    """(B|1, K) visible keys -> a padding mask, a table, or None if all are visible."""
    if bool(seen.all()):
        return None
    keys = seen.shape[1]
    lengths = seen.sum(-1)
    places = torch.arange(keys)
    whole = lengths.expand(batch).clone()
    if torch.equal(seen, places < lengths[:, None]):
        return masks.padding(whole)
    if torch.equal(seen, places >= keys - lengths[:, None]):
        return masks.padding(whole, side="left")
    return masks.tensor(seen[:, None, None, :].clone())


def _both(a: Mask | None, b: Mask | None) -> Mask | None:
    return b if a is None else a if b is None else a & b
