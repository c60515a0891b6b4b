"""Sparse patterns of single tokens: dilated windows, strides, tokens that see and are seen by all.

A block's distances are all whole numbers from the least to the greatest, so what `coverage` says of them is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..describe import describable
from ..shapes import Geometry, Layout, as_tensor, whole
from .base import Coverage, Mask, MaskMod, Span
from .positional import window as plain_window

__all__ = ["Dilated", "Fixed", "GlobalTokens", "Strided", "dilated", "fixed", "global_tokens", "longformer", "strided"]


def _gaps(g: Geometry, rows: Span, columns: Span) -> Span:
    """Least and greatest key position less query position in a block, both included."""
    return columns[0] - (rows[1] - 1 + g.offset), columns[1] - 1 - (rows[0] + g.offset)


def _multiple_within(step: int, low: int, high: int) -> bool:
    return low <= high and high // step * step >= low


@describable
@dataclass(frozen=True, eq=False)
class Dilated(Mask):
    """Every `dilation`-th key, `left` of them before and `right` after the query."""

    left: int
    right: int
    dilation: int

    def __post_init__(self) -> None:
        if self.left < 0 or self.right < 0:
            raise ValueError("window distances must be 0 or more")
        if self.dilation < 1:
            raise ValueError(f"dilation must be at least 1; got {self.dilation}")

    @property
    def is_causal(self) -> bool:
        return self.right == 0

    def predicate(self, g: Geometry) -> MaskMod:
        offset, step = g.offset, self.dilation
        least, most = -self.left * step, self.right * step

        def dilated(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            gap = k - (q + offset)
            return (gap >= least) & (gap <= most) & (gap % step == 0)

        return dilated

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        low, high = _gaps(g, rows, columns)
        least, most = -self.left * self.dilation, self.right * self.dilation
        if not _multiple_within(self.dilation, max(low, least), min(high, most)):
            return Coverage.NONE
        every = self.dilation == 1 or low == high
        return Coverage.ALL if every and least <= low and high <= most else Coverage.SOME

    def __str__(self) -> str:
        return f"dilated({self.left}, {self.right}, dilation={self.dilation})"


@describable
@dataclass(frozen=True, eq=False)
class Strided(Mask):
    """The last `stride` keys before the query, itself, and every `stride`-th key before it."""

    stride: int

    def __post_init__(self) -> None:
        _check_stride(self.stride)

    @property
    def is_causal(self) -> bool:
        return True

    def predicate(self, g: Geometry) -> MaskMod:
        offset, stride = g.offset, self.stride

        def strided(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            back = (q + offset) - k
            return (back >= 0) & ((back <= stride) | (back % stride == 0))

        return strided

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        low, high = (-gap for gap in reversed(_gaps(g, rows, columns)))
        if high < 0 or (low > self.stride and not _multiple_within(self.stride, low, high)):
            return Coverage.NONE
        every = high <= self.stride or self.stride == 1 or low == high
        return Coverage.ALL if low >= 0 and every else Coverage.SOME

    def __str__(self) -> str:
        return f"strided({self.stride})"


@describable
@dataclass(frozen=True, eq=False)
class Fixed(Mask):
    """The query's own stretch of `stride` keys up to itself, and the last `summary` keys of each stretch before."""

    stride: int
    summary: int

    def __post_init__(self) -> None:
        _check_stride(self.stride)
        if not 0 <= self.summary <= self.stride:
            raise ValueError(f"summary must lie between 0 and the stride, {self.stride}; got {self.summary}")

    @property
    def is_causal(self) -> bool:
        return True

    def predicate(self, g: Geometry) -> MaskMod:
        offset, stride, first = g.offset, self.stride, self.stride - self.summary

        def fixed(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            place = q + offset
            return (k <= place) & ((k // stride == place // stride) | (k % stride >= first))

        return fixed

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        first, last = rows[0] + g.offset, rows[1] - 1 + g.offset
        low, high = columns[0], columns[1] - 1
        if low > last:
            return Coverage.NONE
        n, start = self.stride, self.stride - self.summary
        one = low // n == high // n  # all keys in one stretch
        summarised = self.summary > 0 and (not one or high % n >= start)
        if not summarised and (last // n < low // n or first // n > high // n):
            return Coverage.NONE
        wholly = start == 0 or (one and low % n >= start) or (one and first // n == last // n == low // n)
        return Coverage.ALL if wholly and high <= first else Coverage.SOME

    def __str__(self) -> str:
        return f"fixed({self.stride}, summary={self.summary})"


@describable
@dataclass(frozen=True, eq=False)
class GlobalTokens(Mask):
    """Tokens that see every key and are seen by every query: indices (n,), or booleans (K,) or (B, K)."""

    which: Tensor

    def __post_init__(self) -> None:
        t = self.which
        if t.dtype != torch.bool and (t.dtype.is_floating_point or t.dtype.is_complex or t.ndim != 1):
            raise ValueError(f"global tokens are indices (n,) or booleans; got {t.dtype} of shape {tuple(t.shape)}")

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        t = self.which
        if t.dtype != torch.bool:
            if t.numel() and (int(t.min()) < 0 or int(t.max()) >= g.keys):
                raise ValueError(f"global tokens must lie between 0 and {g.keys - 1}; got {t.tolist()}")
            table = torch.zeros(g.keys, dtype=torch.bool, device=t.device)
            table[t.long()] = True
            return GlobalTokens(table)
        if tuple(t.shape) == (g.keys,):
            return self
        if tuple(t.shape) not in ((g.batch, g.keys), (*layout.lead, g.keys)):
            raise ValueError(
                f"global tokens must have shape ({g.keys},) or ({g.batch}, {g.keys}); got {tuple(t.shape)}"
            )
        return GlobalTokens(t.reshape(g.batch, g.keys))

    def predicate(self, g: Geometry) -> MaskMod:
        table, offset = self.which, g.offset

        def global_tokens(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            t, place = table.to(k.device), q + offset
            if t.ndim == 1:
                return t[k] | (t[place.clamp(min=0)] & (place >= 0))
            return t[b, k] | (t[b, place.clamp(min=0)] & (place >= 0))

        return global_tokens

    @cached_property
    def _counts(self) -> tuple[list[int], list[int]]:
        """How many of the first n keys are global in some sequence, and how many in all."""
        t = self.which.detach().cpu().reshape(-1, self.which.shape[-1])
        return tuple([0, *torch.cumsum(found, 0).tolist()] for found in (t.any(0), t.all(0)))  # type: ignore[return-value]

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        some, every = self._counts
        first, last = max(rows[0] + g.offset, 0), max(rows[1] + g.offset, 0)
        if some[columns[1]] == some[columns[0]] and some[last] == some[first]:
            return Coverage.NONE
        here = every[columns[1]] - every[columns[0]] == columns[1] - columns[0]
        here = here or every[last] - every[first] == rows[1] - rows[0]
        return Coverage.ALL if here else Coverage.SOME

    def __str__(self) -> str:
        return "global_tokens"


def _check_stride(stride: int) -> None:
    if stride < 1:
        raise ValueError(f"a stride must be at least 1; got {stride}")


def dilated(left: int, right: int | None = None, *, dilation: int) -> Mask:
    """Every `dilation`-th key: `left` of them before, `right` (default: `left`) after the query, and itself.

    The dilated sliding window of Longformer (Beltagy et al. 2020, figure 2c); `dilation=1` is `window`.

    Raises:
        ValueError: a negative number of keys, a dilation below 1, or what is no whole number.
    """
    left, right = (whole(n, "a number of keys") for n in (left, left if right is None else right))
    return Dilated(left, right, whole(dilation, "a dilation"))


def strided(stride: int) -> Mask:
    """The strided Sparse Transformer (Child et al. 2019, section 4.3): the `stride` keys before the query, itself, and
    every `stride`-th key before it. Causal. For data with a period, such as images with rows of `stride` pixels.

    Raises:
        ValueError: a stride that is below 1 or no whole number.
    """
    return Strided(whole(stride, "a stride"))


def fixed(stride: int, summary: int = 1) -> Mask:
    """The fixed Sparse Transformer (Child et al. 2019, section 4.3): the query's own stretch of `stride` keys up to
    itself, and the last `summary` keys of every stretch before. Causal.

    Raises:
        ValueError: a stride below 1, a summary that is negative or longer, or what is no whole number.
    """
    return Fixed(whole(stride, "a stride"), whole(summary, "a summary"))


def global_tokens(which: Any) -> Mask:
    """Tokens that see every key and are seen by every query (Beltagy et al. 2020; Ainslie et al. 2020).

    `which`: their indices, or booleans (K,) or (B, K).

    Raises:
        ValueError: neither indices nor booleans, or they do not fit the keys.
    """
    return GlobalTokens(_of(which))


def longformer(window: int, global_tokens: Any = (), *, dilation: int = 1) -> Mask:
    """Longformer (Beltagy et al. 2020): `window` keys on either side, `dilation` apart, and tokens global both ways.

    The paper's window of size w is `window=w // 2` here, as in all windows of ours.

    Raises:
        ValueError: as `dilated` and `global_tokens`.
    """
    near = plain_window(window) if dilation == 1 else dilated(window, dilation=dilation)
    which = _of(global_tokens)
    return near | GlobalTokens(which) if which.numel() else near


def _of(which: Any) -> Tensor:
    t = as_tensor(which)
    return t.long() if t.numel() == 0 and t.dtype != torch.bool else t
