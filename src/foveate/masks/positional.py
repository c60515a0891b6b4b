"""Masks that look only at how far a key is from the query, or from the start."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from ..describe import describable
from ..shapes import Geometry, Layout, as_tensor, whole
from .base import Coverage, Mask, MaskMod, Span, check_whole

__all__ = ["Band", "Prefix", "ShiftedBand", "causal", "prefix", "window"]


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

    @property
    def is_causal(self) -> bool:
        return self.right == 0

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
class ShiftedBand(Mask):
    """A `Band` whose query i sits at key position i + `offset`, one number for each sequence, (1,) or (B,)."""

    left: int | None
    right: int | None
    offset: Tensor

    def __post_init__(self) -> None:
        check_whole(self.offset, "offsets")

    @property
    def is_causal(self) -> bool:
        return self.right == 0

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        if self.offset.numel() not in (1, g.batch):
            raise ValueError(f"a mask needs one offset, or one per sequence, {g.batch}; got {self.offset.numel()}")
        return ShiftedBand(self.left, self.right, self.offset.reshape(-1))

    def predicate(self, g: Geometry) -> MaskMod:
        offset, left, right = self.offset, self.left, self.right

        def band(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            places = offset.to(k.device)
            gap = k - (q + (places[b] if len(places) > 1 else places[0]))
            ok = gap == gap if right is None else gap <= right
            return ok if left is None else ok & (gap >= -left)

        return band

    @cached_property
    def _range(self) -> Span:
        return (int(self.offset.min()), int(self.offset.max())) if self.offset.numel() else (0, 0)

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        least, most = self._range
        low, high = columns[0] - (rows[1] - 1), columns[1] - 1 - rows[0]  # of key less query, by plain indices
        left, right = self.left, self.right
        if (right is not None and low - most > right) or (left is not None and high - least < -left):
            return Coverage.NONE
        near = right is None or high - least <= right
        return Coverage.ALL if near and (left is None or low - most >= -left) else Coverage.SOME

    def __str__(self) -> str:
        known = "" if self.offset.numel() != 1 else f"={int(self.offset)}"
        name = "causal" if (self.left, self.right) == (None, 0) else f"window({self.left}, {self.right})"
        return f"{name[:-1]}, offset{known})" if name.endswith(")") else f"{name}(offset{known})"


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


def causal(align: Literal["end", "start"] = "end", *, offset: int | Tensor | list[int] | None = None) -> Mask:
    """No key after the query. `align="end"`: the last query sees every key; `"start"`: query 0 sees key 0 only.

    `offset` instead says at which key position query 0 sits, for all sequences or for each, (B,): for a cache whose
    sequences are filled unequally, their lengths before these queries. Keys beyond are then hidden too.

    Raises:
        ValueError: `align` is neither, or offsets that are no whole numbers or come with an `align`.
    """
    if offset is None:
        return Band(None, 0, align)
    if align != "end":
        raise ValueError(f"an offset says where the queries are, so align={align!r} has nothing to say")
    return ShiftedBand(None, 0, _offsets(offset))


def window(left: int, right: int | None = None, *, offset: int | Tensor | list[int] | None = None) -> Mask:
    """Keys at most `left` before and `right` (default: `left`) after the query, and itself. `offset`: see `causal`.

    Raises:
        ValueError: a negative distance, or distances or offsets that are no whole numbers.
    """
    left, right = (whole(n, "a window distance") for n in (left, left if right is None else right))
    if left < 0 or right < 0:
        raise ValueError("window distances must be 0 or more")
    return Band(left, right) if offset is None else ShiftedBand(left, right, _offsets(offset))


def _offsets(offset: int | Tensor | list[int]) -> Tensor:
    t = as_tensor(offset)
    check_whole(t, "offsets")
    return t.to(torch.int64).reshape(-1)


def prefix(length: int) -> Mask:
    """The first `length` keys; `causal() | prefix(n)` is the prefix language model's mask (Raffel et al. 2020).

    Raises:
        ValueError: a length that is negative or no whole number.
    """
    return Prefix(whole(length, "a prefix length"))
