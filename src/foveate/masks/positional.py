"""Masks that look only at how far a key is from the query, or from the start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..describe import describable
from ..shapes import Geometry
from .base import Coverage, Mask, MaskMod, Span

__all__ = ["Band", "Prefix", "causal", "prefix", "window"]


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


def prefix(length: int) -> Mask:
    """The first `length` keys; `causal() | prefix(n)` is the prefix language model's mask (Raffel et al. 2020).

    Raises:
        ValueError: a negative length.
    """
    return Prefix(int(length))
