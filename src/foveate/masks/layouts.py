"""Masks drawn in blocks: a table says which blocks of queries see which blocks of keys."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from ..describe import describable
from ..shapes import Geometry, Layout, as_tensor, whole
from .base import Coverage, Mask, MaskMod, Span

__all__ = ["BigBird", "BlockSparse", "bigbird", "block_sparse"]


@describable
@dataclass(frozen=True, eq=False)
class BlockSparse(Mask):
    """`layout` (H|1, query blocks, key blocks) of booleans. Rows of it count queries ("start") or, for a query that
    has keys of the past before it, key positions ("end")."""

    layout: Tensor
    block_size: int
    align: str = "start"
    name: str = "block_sparse"

    def __post_init__(self) -> None:
        if self.layout.dtype != torch.bool or self.layout.ndim != 3:
            got = f"{self.layout.dtype} of shape {tuple(self.layout.shape)}"
            raise ValueError(f"a layout holds booleans (heads or 1, query blocks, key blocks); got {got}")
        if self.block_size < 1:
            raise ValueError(f"block_size must be at least 1; got {self.block_size}")
        if self.align not in ("end", "start"):
            raise ValueError(f"align must be 'end' or 'start'; got {self.align!r}")

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        n = self.block_size
        rows = g.queries if self.align == "start" else g.keys
        blocks = -(-rows // n), -(-g.keys // n)
        if self.layout.shape[0] not in (1, g.heads) or tuple(self.layout.shape[1:]) != blocks:
            raise ValueError(
                f"a layout in blocks of {n} must have shape (heads or 1, query blocks, key blocks) = "
                f"({g.heads} or 1, {blocks[0]}, {blocks[1]}); got {tuple(self.layout.shape)}"
            )
        return self

    def _first(self, g: Geometry) -> int:
        return g.offset if self.align == "end" else 0

    def predicate(self, g: Geometry) -> MaskMod:
        table, n, first = self.layout, self.block_size, self._first(g)

        def block_sparse(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            place, t = q + first, table.to(k.device)
            row, column = place.clamp(min=0) // n, k // n
            return (t[0, row, column] if t.shape[0] == 1 else t[h, row, column]) & (place >= 0)

        return block_sparse

    @cached_property
    def _counts(self) -> tuple[list[list[int]], list[list[int]]]:
        """How many blocks before row i and column j are live in some head, and in all: prefix sums."""
        table = self.layout.detach().cpu()
        found = []
        for t in (table.any(0), table.all(0)):
            sums = torch.zeros(t.shape[0] + 1, t.shape[1] + 1, dtype=torch.int64)
            sums[1:, 1:] = t.cumsum(0).cumsum(1)
            found.append(sums.tolist())
        return found[0], found[1]

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        n, first = self.block_size, self._first(g)
        start, stop = rows[0] + first, rows[1] + first
        if stop <= 0:
            return Coverage.NONE
        r0, r1 = max(start, 0) // n, (stop - 1) // n + 1
        c0, c1 = columns[0] // n, (columns[1] - 1) // n + 1
        some, every = (t[r1][c1] - t[r0][c1] - t[r1][c0] + t[r0][c0] for t in self._counts)
        if some == 0:
            return Coverage.NONE
        return Coverage.ALL if start >= 0 and every == (r1 - r0) * (c1 - c0) else Coverage.SOME

    def __str__(self) -> str:
        return self.name


@describable
@dataclass(frozen=True, eq=False)
class BigBird(Mask):
    """The recipe; `settle` draws the layout once it knows how many keys there are."""

    block_size: int
    window: int
    globals: int
    random: int
    seed: int

    def __post_init__(self) -> None:
        if self.block_size < 1:
            raise ValueError(f"block_size must be at least 1; got {self.block_size}")
        if min(self.window, self.globals, self.random) < 0:
            raise ValueError("numbers of window, global and random blocks must be 0 or more")

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        n = -(-g.keys // self.block_size)
        place = torch.arange(n)
        live = (place[:, None] - place).abs() <= self.window
        live |= (place[:, None] < self.globals) | (place < self.globals)
        draw = torch.Generator().manual_seed(self.seed)
        chance = torch.rand(n, n, generator=draw).masked_fill(live, 2.0)
        order = chance.argsort(dim=1)[:, : self.random]
        live.scatter_(1, order, True)
        return BlockSparse(live[None], self.block_size, "end", "bigbird")

    def __str__(self) -> str:
        return "bigbird"


def block_sparse(layout: Any, block_size: int, *, align: Literal["start", "end"] = "start") -> Mask:
    """Blocks of `block_size` x `block_size` that are live or not, by a boolean table (query blocks, key blocks), or one
    for each head, (heads, query blocks, key blocks). The last blocks may be cut short.

    `align`: its rows count queries ("start"), or the key positions at which queries sit ("end": for a cache).

    Raises:
        ValueError: no booleans, a block size that is below 1 or no whole number, or an unknown alignment.
    """
    t = as_tensor(layout)
    return BlockSparse(t[None] if t.ndim == 2 else t, whole(block_size, "block_size"), align)


def bigbird(block_size: int, *, window: int = 1, globals: int = 1, random: int = 3, seed: int = 0) -> Mask:
    """BigBird (Zaheer et al. 2020, internal global tokens): in blocks, `window` neighbours on either side, the first
    `globals` blocks both ways, and `random` others for each block of queries, drawn by `seed`, the same in all heads.

    Raises:
        ValueError: a block size below 1, a negative number, or what is no whole number.
    """
    window, globals, random = (whole(n, "a number of blocks") for n in (window, globals, random))
    return BigBird(whole(block_size, "block_size"), window, globals, random, whole(seed, "seed"))
