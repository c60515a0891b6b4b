"""A part of one head's weights as a picture: cells of rows and columns, pooled, where the rows' statistic is known.

The compiled core does it without ever holding a weight: 67 million weights take it 50 ms on one thread.

Axes: Q queries, K keys, R rows and C columns of the part, h and w cells, S numbers of a row's statistic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from .. import native as core
from ..native import NAN_ROWS, Found, Wanted
from ..scores import Dot
from . import native
from .problem import Problem

__all__ = ["Grid", "survey", "tile"]

ENTRIES = 1 << 22  # weights held at a time where the compiled core cannot help


@dataclass(frozen=True)
class Grid:
    """`height` x `width` cells of `down` rows and `across` columns each, from row `top` and column `left` on.

    Cells may reach beyond the map, or beyond row `bottom` and column `right`: what is not there is not pooled.
    """

    top: int
    left: int
    down: int
    across: int
    height: int
    width: int
    how: Literal["max", "mean"] = "max"
    bottom: int | None = None
    right: int | None = None

    def rows(self, queries: int) -> slice:
        return _cut(self.top, self.down * self.height, queries if self.bottom is None else min(self.bottom, queries))

    def columns(self, keys: int) -> slice:
        return _cut(self.left, self.across * self.width, keys if self.right is None else min(self.right, keys))


def _cut(start: int, length: int, end: int) -> slice:
    return slice(min(start, end), min(start + length, end))


@torch.no_grad()
def tile(problem: Problem, statistic: Float[Tensor, Q * S], batch: int, head: int, grid: Grid) -> Float[Tensor, "h w"]:
    """The largest weight of each cell, or the mean of those that are there; on the CPU, in float32.

    Args:
        statistic: of the rows of this head, as the normaliser has it; NaN rows show nothing.

    Raises:
        ValueError: a grid without cells, or that begins outside the map.
    """
    g = problem.geometry
    if min(grid.down, grid.across, grid.height, grid.width) < 1:
        raise ValueError(f"a grid has cells of at least one row and column; got {grid}")
    if not (0 <= grid.top <= g.queries and 0 <= grid.left <= g.keys):
        raise ValueError(f"a grid begins inside the map of {g.queries:,} x {g.keys:,}; got ({grid.top}, {grid.left})")
    rows, columns = grid.rows(g.queries), grid.columns(g.keys)
    if rows.start == rows.stop or columns.start == columns.stop:
        return torch.zeros(grid.height, grid.width)
    found = _by_core(problem, statistic, batch, head, grid, rows, columns)
    sums = _by_blocks(problem, statistic, batch, head, grid, rows, columns) if found is None else found
    if grid.how == "max":
        return sums.float()
    counts = [
        _counts(span, step, cells)
        for span, step, cells in ((rows, grid.down, grid.height), (columns, grid.across, grid.width))
    ]
    return (sums / (counts[0][:, None] * counts[1]).clamp(min=1)).float()


@torch.no_grad()
def survey(
    problem: Problem, batch: int, head: int, grid: Grid
) -> tuple[Float[Tensor, rows * S], Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """The statistic of a grid's rows, and their largest weights and sums in its cells, all in one pass.

    The grid covers all columns in which a row of it sees a key. `grid.how` is not looked at.
    """
    g = problem.geometry
    rows, columns = grid.rows(g.queries), grid.columns(g.keys)
    found = _asked(problem, None, batch, head, grid, rows, columns, ("max", "mean"))
    if found is not None:
        best, sums = (found.pooled[grid.height, grid.width, how][0, 0] for how in ("max", "mean"))
        return found.lse[0, 0], best, sums.float()
    statistic = problem.statistic(slice(batch, batch + 1), slice(head, head + 1), rows)[0, 0]
    whole = statistic.new_full((rows.stop, *statistic.shape[1:]), torch.nan)
    whole[rows] = statistic
    best, sums = (
        _by_blocks(problem, whole, batch, head, replace(grid, how=how), rows, columns) for how in ("max", "mean")
    )
    return statistic.cpu(), best.float(), sums.float()


def _by_core(
    problem: Problem, statistic: Tensor, batch: int, head: int, grid: Grid, rows: slice, columns: slice
) -> Tensor | None:
    """Maxima or sums by the compiled core; None where it cannot."""
    if statistic.ndim != 1 or bool(torch.isnan(statistic[rows]).any()):
        return None
    found = _asked(problem, statistic[rows], batch, head, grid, rows, columns, (grid.how,))
    return None if found is None else found.pooled[grid.height, grid.width, grid.how][0, 0]


def _asked(
    problem: Problem,
    known: Tensor | None,
    batch: int,
    head: int,
    grid: Grid,
    rows: slice,
    columns: slice,
    hows: tuple[str, ...],
) -> Found | None:
    """What the compiled core finds in a part; None where it cannot look, or a row is NaN."""
    if native.obstacle(problem) is not None:
        return None
    intervals = native.intervals(problem)
    if intervals is None and problem.mask is not None:
        return None
    assert isinstance(problem.score, Dot) and problem.score.scale is not None
    sinks = problem.normalizer.sinks  # type: ignore[attr-defined]
    real, wide = columns.stop - columns.start, grid.across * grid.width
    group = head // problem.shared
    k = problem.k_BGKD[batch : batch + 1, group : group + 1, columns]
    if real < wide:
        k = torch.nn.functional.pad(k, (0, 0, 0, wide - real))
    found = core.run(
        problem.q_BHQD[batch : batch + 1, head : head + 1, rows],
        k,
        None,
        Wanted(lse=known is None, pooled=tuple((grid.height, grid.width, how) for how in hows)),
        scale=problem.score.scale,
        softcap=problem.score.softcap,
        sinks=None if sinks is None or known is not None else sinks[head : head + 1],
        known=None if known is None else known.reshape(1, 1, -1),
        spans=_spans(intervals, batch, head, rows, columns),
        first_row=0,
        all_rows=grid.down * grid.height,
        **_bias(problem, batch, head, rows, columns, grid),
    )
    return None if found.status & NAN_ROWS else found


def _spans(
    intervals: tuple[Tensor, Tensor] | None, batch: int, head: int, rows: slice, columns: slice
) -> tuple[Tensor, Tensor]:
    """Each row's keys among these columns, (1, 1, R)."""
    count, real = rows.stop - rows.start, columns.stop - columns.start
    if intervals is None:
        return torch.zeros(1, 1, count, dtype=torch.int32), torch.full((1, 1, count), real, dtype=torch.int32)
    found = []
    for t in intervals:
        one = t[batch if t.shape[0] > 1 else 0, head if t.shape[1] > 1 else 0]
        found.append((one[rows] if len(one) > 1 else one.expand(count)) - columns.start)
    return found[0].clamp(0, real)[None, None], found[1].clamp(0, real)[None, None]


def _bias(problem: Problem, batch: int, head: int, rows: slice, columns: slice, grid: Grid) -> dict[str, Any]:
    if problem.bias is None:
        return {}
    table, wide = problem.bias.by_distance(), grid.across * grid.width
    if table is not None:  # entry j - i + all_rows - 1 of the part, as the core counts it
        first = columns.start - rows.start + problem.geometry.queries - grid.down * grid.height
        own = table[head if len(table) > 1 else 0]
        at = torch.arange(first, first + grid.down * grid.height + wide - 1)
        return {"table": own[at.clamp(0, len(own) - 1)][None, None]}
    at_head = (slice(batch, batch + 1), slice(head, head + 1))
    part = problem.bias.block(problem.geometry, (*at_head, rows, columns), problem.q_BHQD[*at_head, rows])
    lacks = wide - (columns.stop - columns.start)
    if lacks and part.shape[-1] > 1:
        part = torch.nn.functional.pad(part, (0, lacks))
    return {"bias": part}


def _by_blocks(
    problem: Problem, statistic: Tensor, batch: int, head: int, grid: Grid, rows: slice, columns: slice
) -> Tensor:
    """Maxima or sums of weights that are formed, some rows of cells at a time."""
    b, h = slice(batch, batch + 1), slice(head, head + 1)
    real, wide = columns.stop - columns.start, grid.across * grid.width
    out = torch.zeros(grid.height, grid.width, dtype=torch.float64)
    for first, part in _strips(grid, rows, real):
        scores = problem.scores(b, h, part, columns)
        weights = problem.normalizer.weights(scores, statistic[part][None, None], columns)[0, 0].detach().cpu()
        lines = -(-len(weights) // grid.down)
        lacks = (0, wide - real, 0, lines * grid.down - len(weights))
        cells = torch.nn.functional.pad(weights.nan_to_num(0.0), lacks).reshape(
            lines, grid.down, grid.width, grid.across
        )
        out[first : first + lines] = cells.amax((1, 3)) if grid.how == "max" else cells.double().sum((1, 3))
    return out


def _strips(grid: Grid, rows: slice, width: int) -> Iterator[tuple[int, slice]]:
    """Which line of cells comes first, and its rows with those of some lines more."""
    lines = max(1, ENTRIES // max(1, width * grid.down))
    for first in range(0, -(-(rows.stop - rows.start) // grid.down), lines):
        start = rows.start + first * grid.down
        yield first, slice(start, min(start + lines * grid.down, rows.stop))


def _counts(span: slice, step: int, cells: int) -> Tensor:
    """How many rows, or columns, of each cell are there."""
    left = span.stop - span.start - step * torch.arange(cells, dtype=torch.float64)
    return left.clamp(0, step)
