"""Masks: who may attend to what. True = may attend.

A mask is a predicate over (batch, head, query, key) in FlexAttention's `mask_mod` signature, plus what blocks it can
be live in. One definition serves the dense reference, the block loop, recordings and the viewer. Masks compose with
`&`, `|` and `~`:

    masks.causal() & masks.window(256)
    masks.causal() | masks.prefix(32)

Positions align to the end: query i sits at key position i + K - Q, so the last query sees every key of a causal mask.
`causal(align="start")` is PyTorch's `is_causal` instead. `where` and `tensor` get the plain indices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from .describe import describable
from .shapes import Geometry, Layout, Picked, as_tensor, cut, expand_to, indices

__all__ = [
    "Coverage",
    "Mask",
    "causal",
    "documents",
    "everything",
    "padding",
    "prefix",
    "tensor",
    "where",
    "window",
]

MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
Span = tuple[int, int]
Block = tuple[slice, slice, Picked, Picked]  # some batches, heads, rows and columns


class Coverage(Enum):
    """How much of a block may attend. SOME is always a safe answer."""

    ALL = "all"
    SOME = "some"
    NONE = "none"


class Mask:
    """Base of all masks. Subclasses are frozen dataclasses and define `predicate`."""

    def predicate(self, g: Geometry) -> MaskMod:
        """A function of broadcastable index tensors (batch, head, query, key) -> bool tensor."""
        raise NotImplementedError

    def block(self, g: Geometry, at: Block, device: torch.device) -> Bool[Tensor, "b h R C"]:
        """Who may attend in a block, bool (b, h, R, C); an axis along which nothing varies may have size 1."""
        places = [indices(p, device).reshape([-1 if i == j else 1 for j in range(4)]) for i, p in enumerate(at)]
        ok = self.predicate(g)(*places)
        return ok.reshape((1,) * (4 - ok.ndim) + tuple(ok.shape))

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        """What is known of the block rows x columns (half-open, not empty) over all batches and heads."""
        return Coverage.SOME

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        """This mask, its tensors brought to canonical shape; ValueError if it cannot belong to such a problem."""
        return self

    def __and__(self, other: Mask) -> Mask:
        return _combine(And, self, other)

    def __or__(self, other: Mask) -> Mask:
        return _combine(Or, self, other)

    def __invert__(self) -> Mask:
        return Not(self)


def _combine(kind: type, a: Mask, b: Any) -> Mask:
    if not isinstance(b, Mask):
        raise TypeError(f"a mask composes with masks; wrap a tensor in masks.tensor(...); got {type(b).__name__}")
    return kind(a, b)


@dataclass(frozen=True, eq=False)
class _Pair(Mask):
    """Two masks and how they are joined. One that covers as `_decides` settles a block, whatever the other says."""

    left: Mask
    right: Mask
    _decides: ClassVar[Coverage]
    _sign: ClassVar[str]

    def _join(self, a: Tensor, b: Tensor) -> Tensor:
        raise NotImplementedError

    def predicate(self, g: Geometry) -> MaskMod:
        a, b = self.left.predicate(g), self.right.predicate(g)
        return lambda *at: self._join(a(*at), b(*at))

    def block(self, g: Geometry, at: Block, device: torch.device) -> Bool[Tensor, "b h R C"]:
        return self._join(self.left.block(g, at, device), self.right.block(g, at, device))

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        a = self.left.coverage(g, rows, columns)
        if a is self._decides:
            return a
        b = self.right.coverage(g, rows, columns)
        return b if b is self._decides or a is not Coverage.SOME else Coverage.SOME

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        return type(self)(self.left.settle(layout, g), self.right.settle(layout, g))

    def __str__(self) -> str:
        return f"{_nested(self.left)} {self._sign} {_nested(self.right)}"


@describable
@dataclass(frozen=True, eq=False)
class And(_Pair):
    _decides, _sign = Coverage.NONE, "&"

    def _join(self, a: Tensor, b: Tensor) -> Tensor:
        return a & b


@describable
@dataclass(frozen=True, eq=False)
class Or(_Pair):
    _decides, _sign = Coverage.ALL, "|"

    def _join(self, a: Tensor, b: Tensor) -> Tensor:
        return a | b


@describable
@dataclass(frozen=True, eq=False)
class Not(Mask):
    inner: Mask

    def predicate(self, g: Geometry) -> MaskMod:
        a = self.inner.predicate(g)
        return lambda *at: ~a(*at)

    def block(self, g: Geometry, at: Block, device: torch.device) -> Bool[Tensor, "b h R C"]:
        return ~self.inner.block(g, at, device)

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        flipped = {Coverage.ALL: Coverage.NONE, Coverage.NONE: Coverage.ALL, Coverage.SOME: Coverage.SOME}
        return flipped[self.inner.coverage(g, rows, columns)]

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        return Not(self.inner.settle(layout, g))

    def __str__(self) -> str:
        return f"~{_nested(self.inner)}"


def _nested(mask: Mask) -> str:
    return f"({mask})" if isinstance(mask, And | Or) else str(mask)


@describable
@dataclass(frozen=True, eq=False)
class Everything(Mask):
    def predicate(self, g: Geometry) -> MaskMod:
        return lambda b, h, q, k: (q >= 0) & (k >= 0)

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        return Coverage.ALL

    def __str__(self) -> str:
        return "everything"


@describable
@dataclass(frozen=True, eq=False)
class Band(Mask):
    """Keys from `left` before to `right` after the query's own position; None has no limit on that side."""

    left: int | None
    right: int | None
    align: str = "end"

    def __post_init__(self) -> None:
        if self.align not in ("end", "start"):
            raise ValueError(f"align must be 'end' or 'start'; got {self.align!r}")

    def _offset(self, g: Geometry) -> int:
        return g.offset if self.align == "end" else 0

    def predicate(self, g: Geometry) -> MaskMod:
        offset, left, right = self._offset(g), self.left, self.right

        def band(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            if left is None and right is None:
                return (q >= 0) & (k >= 0)
            near = None if right is None else k <= q + (offset + right)
            if left is None:
                return near  # type: ignore[return-value]
            far = k >= q + (offset - left)
            return far if near is None else near & far

        return band

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        first, last = rows[0] + self._offset(g), rows[1] - 1 + self._offset(g)
        low, high = columns[0], columns[1] - 1
        left, right = self.left, self.right
        if (right is not None and low > last + right) or (left is not None and high < first - left):
            return Coverage.NONE
        if (right is None or high <= first + right) and (left is None or low >= last - left):
            return Coverage.ALL
        return Coverage.SOME

    def __str__(self) -> str:
        if self.left is None and self.right == 0:
            return "causal" if self.align == "end" else "causal(align='start')"
        return f"window({self.left}, {self.right})"


@describable
@dataclass(frozen=True, eq=False)
class Padding(Mask):
    """Keys inside each sequence's length: the first ones, or (`side="left"`) the last ones."""

    lengths: Tensor
    side: str = "right"

    def __post_init__(self) -> None:
        _check_whole(self.lengths, "padding lengths")
        if self.side not in ("right", "left"):
            raise ValueError(f"side must be 'right' or 'left'; got {self.side!r}")

    @cached_property
    def _range(self) -> Span:
        n = self.lengths
        return (int(n.min()), int(n.max())) if n.numel() else (0, 0)

    def predicate(self, g: Geometry) -> MaskMod:
        lengths, keys, left = self.lengths, g.keys, self.side == "left"

        def padding(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            length = lengths.to(k.device)[b]
            return k >= keys - length if left else k < length

        return padding

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        shortest, longest = self._range
        low, high = columns if self.side == "right" else (g.keys - columns[1], g.keys - columns[0])
        if high <= shortest:
            return Coverage.ALL
        return Coverage.NONE if low >= longest else Coverage.SOME

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        if self.lengths.numel() != g.batch:
            raise ValueError(f"padding needs one length per sequence, {g.batch}; got {self.lengths.numel()}")
        if self._range[0] < 0 or self._range[1] > g.keys:
            raise ValueError(f"padding lengths must lie between 0 and the number of keys, {g.keys}")
        return self

    def __str__(self) -> str:
        return "padding" if self.side == "right" else "padding(side='left')"


@describable
@dataclass(frozen=True, eq=False)
class Documents(Mask):
    """A query sees the keys of its own document; `ids` (K,) or (B, K) number the documents of packed sequences."""

    ids: Tensor

    def __post_init__(self) -> None:
        _check_whole(self.ids, "document ids")

    def predicate(self, g: Geometry) -> MaskMod:
        ids, offset = self.ids, g.offset

        def documents(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            place = q + offset
            inside, place, table = place >= 0, place.clamp(min=0), ids.to(k.device)
            if table.ndim == 1:
                return inside & (table[place] == table[k])
            return inside & (table[b, place] == table[b, k])

        return documents

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        if tuple(self.ids.shape) == (g.keys,):
            return self
        if tuple(self.ids.shape) not in ((g.batch, g.keys), (*layout.lead, g.keys)):
            raise ValueError(
                f"document ids must have shape ({g.keys},) or ({g.batch}, {g.keys}); got {tuple(self.ids.shape)}"
            )
        return Documents(self.ids.reshape(g.batch, g.keys))

    @cached_property
    def _at_hand(self) -> Tensor:
        return self.ids.detach().cpu().reshape(-1, self.ids.shape[-1])

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        first, last = rows[0] + g.offset, rows[1] + g.offset
        if last <= 0 or self._at_hand.numel() == 0:
            return Coverage.NONE
        low, high = torch.aminmax(self._at_hand[:, max(first, 0) : last], dim=-1)
        lowest, highest = torch.aminmax(self._at_hand[:, slice(*columns)], dim=-1)
        if bool(((high < lowest) | (highest < low)).all()):
            return Coverage.NONE
        same = (low == high) & (lowest == highest) & (low == lowest)
        return Coverage.ALL if first >= 0 and bool(same.all()) else Coverage.SOME

    def __str__(self) -> str:
        return "documents"


@describable
@dataclass(frozen=True, eq=False)
class Prefix(Mask):
    """The first `length` keys, whoever asks."""

    length: int

    def __post_init__(self) -> None:
        if self.length < 0:
            raise ValueError("a prefix length must be 0 or more")

    def predicate(self, g: Geometry) -> MaskMod:
        return lambda b, h, q, k: (k < self.length) & (q >= 0)

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        if columns[1] <= self.length:
            return Coverage.ALL
        return Coverage.NONE if columns[0] >= self.length else Coverage.SOME

    def __str__(self) -> str:
        return f"prefix({self.length})"


@dataclass(frozen=True, eq=False)
class Where(Mask):
    """The user's own predicate on plain indices. It has no description, so it is stored as the bits it gives."""

    function: MaskMod

    def predicate(self, g: Geometry) -> MaskMod:
        def checked(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            ok = torch.as_tensor(self.function(b, h, q, k), device=k.device)
            if ok.dtype != torch.bool:
                raise TypeError(f"a predicate must give booleans, True = may attend; got {ok.dtype}")
            return ok

        return checked

    def __str__(self) -> str:
        return f"where({getattr(self.function, '__name__', 'predicate')})"


@describable
@dataclass(frozen=True, eq=False)
class Dense(Mask):
    """A boolean tensor. `table` broadcasts to (batch, heads, queries, keys) once a problem has taken it in."""

    table: Tensor

    def __post_init__(self) -> None:
        if self.table.dtype != torch.bool:
            raise TypeError(
                f"a mask holds booleans, True = may attend; got {self.table.dtype}. Numbers to add are a bias="
            )

    def predicate(self, g: Geometry) -> MaskMod:
        table = self.table

        def dense(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            t = table.to(k.device)
            return t[tuple(x if n != 1 else x.new_zeros(()) for n, x in zip(t.shape, (b, h, q, k), strict=True))]

        return dense

    def block(self, g: Geometry, at: Block, device: torch.device) -> Bool[Tensor, "b h R C"]:
        return cut(self.table, at).to(device)

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        return Dense(expand_to(self.table, layout, g, "mask"))

    def __str__(self) -> str:
        return f"tensor{tuple(self.table.shape)}"


def everything() -> Mask:
    """Every query may attend to every key."""
    return Everything()


def causal(align: Literal["end", "start"] = "end") -> Mask:
    """No key after the query. `align="end"`: the last query sees every key; `"start"`: query 0 sees key 0 only.

    Raises:
        ValueError: `align` is neither.
    """
    return Band(None, 0, align)


def window(left: int, right: int | None = None) -> Mask:
    """Keys at most `left` before and `right` (default: `left`) after the query, itself included.

    Raises:
        ValueError: a negative distance.
    """
    right = left if right is None else right
    if left < 0 or right < 0:
        raise ValueError("window distances must be 0 or more")
    return Band(int(left), int(right))


def padding(lengths: Tensor | list[int], side: Literal["right", "left"] = "right") -> Mask:
    """Hide the padding keys. `lengths` (batch,): real keys per sequence; `side`: where the padding lies.

    Raises:
        ValueError: lengths that are no whole numbers, or an unknown side.
    """
    return Padding(_whole(lengths, "padding lengths").reshape(-1), side)


def documents(ids: Tensor | list[int]) -> Mask:
    """Sequences packed into one: a query sees only its own document. `ids` (K,) or (B, K), whole numbers."""
    return Documents(_whole(ids, "document ids"))


def prefix(length: int) -> Mask:
    """The first `length` keys; `causal() | prefix(n)` is the prefix language model's mask (Raffel et al. 2020).

    Raises:
        ValueError: a negative length.
    """
    return Prefix(int(length))


def where(predicate: MaskMod) -> Mask:
    """Your own predicate: a FlexAttention `mask_mod(batch, head, query, key)`, written with tensor operations."""
    if not callable(predicate):
        raise TypeError(f"where takes a function of (batch, head, query, key); got {type(predicate).__name__}")
    return Where(predicate)


def tensor(table: Any) -> Mask:
    """A boolean tensor or array that broadcasts to (..., heads, queries, keys).

    Raises:
        TypeError: its entries are not booleans; numbers to add to the scores are a `bias`.
    """
    return Dense(as_tensor(table))


def _whole(values: Any, name: str) -> Tensor:
    t = as_tensor(values)
    if t.numel() == 0:
        return t.to(torch.int64)
    _check_whole(t, name)
    return t.to(torch.int64)


def _check_whole(t: Tensor, name: str) -> None:
    if t.dtype.is_floating_point or t.dtype.is_complex or t.dtype == torch.bool:
        raise ValueError(f"{name} must be whole numbers; got {t.dtype}")
