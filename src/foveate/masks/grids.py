"""Masks of tokens that lie on a grid: pixels or patches of an image, row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..describe import describable
from ..shapes import Geometry, Layout, whole
from .base import Coverage, Mask, MaskMod, Span

__all__ = ["Neighbourhood", "neighbourhood"]


@describable
@dataclass(frozen=True, eq=False)
class Neighbourhood(Mask):
    """Around each place of a grid, `kernel` places along each axis, `dilation` apart; `leading` tokens before the grid
    see and are seen by all."""

    grid: tuple[int, ...]
    kernel: tuple[int, ...]
    dilation: tuple[int, ...]
    leading: int

    def __post_init__(self) -> None:
        sizes = (*self.grid, *self.kernel, *self.dilation)
        if not all(type(n) is int and n > 0 for n in sizes) or self.leading < 0:
            raise ValueError("grid, kernel and dilation must be whole numbers of at least 1, leading at least 0")
        if not len(self.grid) == len(self.kernel) == len(self.dilation) > 0:
            raise ValueError(f"grid, kernel and dilation need as many axes; got {sizes}")
        for n, k, d in zip(self.grid, self.kernel, self.dilation, strict=True):
            if k % 2 == 0:
                raise ValueError(f"a kernel must be odd, so that it has a middle; got {k}")
            if k * d > n:
                raise ValueError(f"kernel times dilation must not exceed the grid; got {k} x {d} on an axis of {n}")

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        tokens = self.leading + math.prod(self.grid)
        if g.keys != tokens or g.queries > g.keys:
            raise ValueError(
                f"a neighbourhood on {self.grid} with {self.leading} leading tokens needs {tokens} keys and at most as "
                f"many queries; got {g.keys} and {g.queries}"
            )
        return self

    @cached_property
    def _starts(self) -> list[Tensor]:
        """Along each axis, where the window of each place begins. At a border it moves inwards, so that it keeps its
        size; with a dilation, among the places that are a multiple of it away."""
        found = []
        for n, k, d in zip(self.grid, self.kernel, self.dilation, strict=True):
            place = torch.arange(n)
            residue, step = place % d, place // d
            steps = (n - residue + d - 1) // d
            first = torch.minimum((step - k // 2).clamp(min=0), steps - k)
            found.append(residue + first * d)
        return found

    def predicate(self, g: Geometry) -> MaskMod:
        def neighbourhood(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            i, j = q + g.offset - self.leading, k - self.leading
            everywhere = (i < 0) | (j < 0)
            i, j, near = i.clamp(min=0), j.clamp(min=0), None
            axes = zip(self.grid, self.kernel, self.dilation, self._starts, _steps(self.grid), strict=True)
            for n, kernel, d, starts, step in axes:
                start, there = starts.to(k.device)[i // step % n], j // step % n
                gap = there - start
                ok = (gap >= 0) & (gap < kernel * d) & (gap % d == 0)
                near = ok if near is None else near & ok
            return everywhere | near  # type: ignore[operator]

        return neighbourhood

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        first, last = (r + g.offset - self.leading for r in rows)
        low, high = (c - self.leading for c in columns)
        if last <= 0 or high <= 0:
            return Coverage.ALL
        inside = self._of_grid((max(first, 0), last), (max(low, 0), high))
        return Coverage.SOME if (first < 0 or low < 0) and inside is Coverage.NONE else inside

    def _of_grid(self, rows: Span, columns: Span) -> Coverage:
        """By axes: a block is dead if it is so along one axis, and wholly live if it is so along all."""
        known = Coverage.ALL
        boxes = zip(
            self._starts, self.kernel, self.dilation, *(_box(self.grid, s) for s in (rows, columns)), strict=True
        )
        for starts, kernel, d, (a, b), (low, high) in boxes:
            least, most = (int(n) for n in torch.aminmax(starts[a : b + 1]))
            reach = (kernel - 1) * d
            if high < least or low > most + reach:
                return Coverage.NONE
            every = d == 1 or (a == b and low == high and (low - least) % d == 0)
            if not (every and most <= low and high <= least + reach):
                known = Coverage.SOME
        return known

    def __str__(self) -> str:
        shown = [" x ".join(str(n) for n in sizes) for sizes in (self.grid, self.kernel)]
        return f"neighbourhood({shown[0]}, {shown[1]})"


def _steps(grid: Sequence[int]) -> list[int]:
    """How many tokens one step along each axis is."""
    return [math.prod(grid[axis + 1 :]) for axis in range(len(grid))]


def _box(grid: Sequence[int], span: Span) -> list[Span]:
    """The first and last place along each axis, of tokens numbered row by row."""
    found: list[Span] = []
    whole = False
    for n, step in zip(grid, _steps(grid), strict=True):
        a, b = span[0] // step % n, (span[1] - 1) // step % n
        found.append((0, n - 1) if whole else (a, b))
        whole = whole or a != b
    return found


def neighbourhood(
    grid: Sequence[int], kernel: int | Sequence[int], *, dilation: int | Sequence[int] = 1, leading: int = 0
) -> Mask:
    """Neighbourhood attention (Hassani et al. 2023; dilated: Hassani and Shi 2022) of tokens on a grid, row by row.

    Each sees the `kernel` nearest places along each axis, `dilation` apart; at a border the window moves inwards, so
    that every token sees as many. A grid may have any number of axes: `(height, width)`, `(frames, height, width)`.

    `leading` tokens before the grid, such as a class token, see and are seen by all.

    Raises:
        ValueError: an even kernel, one that does not fit the grid, or what is no whole number.
    """
    axes = tuple(whole(n, "an axis of a grid") for n in grid)
    kernels, steps = (
        tuple(whole(n, name) for n in (x if isinstance(x, Sequence) else (x,) * len(axes)))
        for x, name in ((kernel, "a kernel"), (dilation, "a dilation"))
    )
    return Neighbourhood(axes, kernels, steps, whole(leading, "a number of leading tokens"))
