"""What callers give as weights, brought to matrices small enough to draw.

A map is never formed as a whole: what is longer than a picture has cells is pooled, block by block, to the largest
weight of each cell.

Axes: H heads, Q queries, K keys; r and c: rows and columns of a picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..map import AttentionMap
from ..shapes import to_numpy
from ..stats import Pooled

__all__ = ["Floats", "Grid", "matrices", "matrix", "numbers"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CELLS = 256  # rows and columns of a picture, at most
_AT_ONCE = 1 << 23  # weights of a map looked at at once
_WORTH = 16  # one pass over all heads costs about as much as this many heads one by one
_ROUNDING = 1e-6  # below 0 by less than this is 0


@dataclass(frozen=True)
class Grid:
    """One matrix to draw, (r, c), for Q queries and K keys.

    `seen` is False where every key of a cell is masked; None: no key is. A row of the picture stands for one query, or
    for several if there are too many (`pooled`); a cell then holds the largest of their weights.
    """

    weights: Floats
    seen: Bools | None
    queries: int
    keys: int

    @property
    def pooled(self) -> bool:
        return self.weights.shape != (self.queries, self.keys)

    @property
    def note(self) -> str:
        """What a cell stands for, if for more than one weight."""
        rows, columns = (-(-n // cells) for n, cells in zip((self.queries, self.keys), self.weights.shape, strict=True))
        return f"cell: largest of {rows} × {columns} weights" if self.pooled else ""

    @property
    def shown(self) -> Any:
        """(r, c), a masked array where some keys are masked."""
        return self.weights if self.seen is None else np.ma.masked_array(self.weights, ~self.seen)


def numbers(weights: Any) -> Floats:
    """Weights of any kind as an array; of a map, all of them.

    Raises:
        TypeError: they are no numbers, or rows of unequal lengths.
        ValueError: some are negative or infinite.
    """
    if isinstance(weights, AttentionMap):
        weights = weights.dense()
    if isinstance(weights, Tensor):
        weights = to_numpy(weights)
    try:
        found = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"weights must be an AttentionMap, a tensor, an array or nested lists of numbers with rows of one length; "
            f"got {type(weights).__name__}"
        ) from None
    return _checked(found)


def _checked(found: Floats) -> Floats:
    if np.isinf(found).any() or np.nanmin(found, initial=0) < -_ROUNDING:
        raise ValueError("weights to be drawn must be 0 or more and finite; some of these are not")
    return np.maximum(found, 0)


def matrix(weights: Any, index: Sequence[int] | None, cells: int) -> Grid:
    """One matrix of weights (..., Q, K).

    Args:
        index: an int for each axis before the queries; not needed where these have size 1.

    Raises:
        TypeError: weights are no numbers.
        ValueError: the batch or the head is not chosen, or there is nothing to draw.
    """
    if not isinstance(weights, AttentionMap):
        weights = numbers(weights)
    lead = _lead(weights)
    if index is None and all(size == 1 for size in lead):
        index = (0,) * len(lead)
    if index is None:
        first = ", ".join("0" for _ in lead)
        raise ValueError(
            f"weights must have the axes (queries, keys); got shape {tuple(weights.shape)}: choose a batch and head, "
            f"as in weights[{first}], or, without forming it, by index=[{first}]"
        )
    index = tuple(index)
    if len(index) != len(lead):
        raise ValueError(f"index must have one int for each axis before (queries, keys), {lead}; got {len(index)}")
    for size, i in zip(lead, index, strict=True):
        if not -size <= i < size:
            raise IndexError(f"index must lie within the axes before (queries, keys), {lead}; got {index}")
    place = tuple(i % size for i, size in zip(index, lead, strict=True))
    return matrices(weights, [place], slice(0, weights.shape[-2]), slice(0, weights.shape[-1]), cells)[0]


def _lead(weights: Any) -> tuple[int, ...]:
    if len(weights.shape) < 2:
        raise ValueError(f"weights must have the axes (queries, keys); got shape {tuple(weights.shape)}")
    return tuple(weights.shape[:-2])


def matrices(
    weights: AttentionMap | Floats, places: Sequence[tuple[int, ...]], rows: slice, columns: slice, cells: int
) -> list[Grid]:
    """The matrices at some places of the leading axes, the same rows and columns of each.

    Raises:
        ValueError: there are no rows or columns, or no cells to draw them in.
    """
    if cells < 1:
        raise ValueError(f"cells must be at least 1; got {cells}")
    queries, keys = rows.stop - rows.start, columns.stop - columns.start
    if queries < 1 or keys < 1:
        raise ValueError(f"weights must have at least one query and one key; got {queries} x {keys}")
    if not isinstance(weights, AttentionMap):
        whole = [weights[place][rows, columns] for place in places]
        return [Grid(_pooled(one, cells, queries, keys), None, queries, keys) for one in whole]
    seen = _Seen(weights, rows, columns, cells)
    drawn = [_checked(one) for one in _of_map(weights, places, rows, columns, cells)]
    return [Grid(one, seen.at(place), queries, keys) for one, place in zip(drawn, places, strict=True)]


@torch.no_grad()
def _of_map(
    weights: AttentionMap, places: Sequence[tuple[int, ...]], rows: slice, columns: slice, cells: int
) -> Iterator[Floats]:
    """(r, c) for each place."""
    *lead, queries, keys = weights.shape
    whole = (rows, columns) == (slice(0, queries), slice(0, keys)) and max(queries, keys) > cells
    if whole and _WORTH * len(places) >= np.prod(lead, dtype=np.int64):
        pictures = weights.reduce(Pooled(cells, cells))
        pictures = to_numpy(torch.as_tensor(pictures)).astype(np.float64)
        yield from (pictures[place] for place in places)
        return
    for place in places:
        yield _by_blocks(lambda r, place=place: weights[(*place, r, columns)], rows, columns, cells)


def _by_blocks(block: Any, rows: slice, columns: slice, cells: int) -> Any:
    """Pool (Q, K) to (r, c), where `block(rows)` gives some rows of it at a time."""
    queries, keys = rows.stop - rows.start, columns.stop - columns.start
    starts = _starts(queries, cells)
    step = max(1, _AT_ONCE // keys * len(starts) // queries)  # rows of the picture
    parts = []
    for first in range(0, len(starts), step):
        start = starts[first]
        stop = starts[first + step] if first + step < len(starts) else queries
        part = np.asarray(to_numpy(torch.as_tensor(block(slice(rows.start + start, rows.start + stop)))))
        part = np.maximum.reduceat(part, starts[first : first + step] - start, axis=-2)
        parts.append(np.maximum.reduceat(part, _starts(keys, cells), axis=-1))
    found = np.concatenate(parts, axis=-2)
    return found if found.dtype == np.bool_ else found.astype(np.float64)


def _pooled(weights: Floats, cells: int, queries: int, keys: int) -> Floats:
    return np.maximum.reduceat(np.maximum.reduceat(weights, _starts(queries, cells), 0), _starts(keys, cells), 1)


def _starts(size: int, cells: int) -> NDArray[np.int64]:
    """The first entry of each cell, for entry i in cell i * cells // size, as `fv.stats.Pooled` has it."""
    cells = min(cells, size)
    return -(-np.arange(cells, dtype=np.int64) * size // cells)


class _Seen:
    """Which cells of a map hold a key that is not masked; worked out once for all heads that see the same."""

    def __init__(self, weights: AttentionMap, rows: slice, columns: slice, cells: int) -> None:
        self.weights, self.rows, self.columns, self.cells = weights, rows, columns, cells
        problem = weights.problem
        self.plain = problem.mask is None and problem.bias is None
        self.same: dict[int, Bools | None] = {}

    def at(self, place: tuple[int, ...]) -> Bools | None:
        """(r, c); None: no key is masked."""
        if self.plain:
            return None
        *lead, head = place or (0,)
        batch = int(np.ravel_multi_index(lead, self.weights.layout.lead)) if lead else 0
        if batch in self.same:
            return self.same[batch]
        alike = True

        def block(rows: slice) -> Tensor:
            nonlocal alike
            heads = slice(0, self.weights.problem.geometry.heads)
            ok = self.weights.problem.allowed(slice(batch, batch + 1), heads, rows, self.columns)
            shape = (rows.stop - rows.start, self.columns.stop - self.columns.start)
            if ok is None:
                return torch.ones(shape, dtype=torch.bool)
            alike = alike and ok.shape[1] == 1
            return ok[0, head if ok.shape[1] > 1 else 0].expand(shape)

        found: Bools | None = _by_blocks(block, self.rows, self.columns, self.cells)
        found = None if found is None or found.all() else found
        if alike:
            self.same[batch] = found
        return found
