"""One head of any length as a map of the world: the whole first, coarse, then finer; and any part of it exactly.

A zoom z shows 2^z rows and columns in a pixel. Zooms below that of the overview are computed when asked for, from
queries, keys and the rows' statistic, without forming a weight that is not shown; above it the overview is pooled.

Axes: Q queries and K keys of one sequence, h and w cells of the overview.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.heads.sampling import scattered
from foveate.map import AttentionMap
from foveate.operator.tiles import Grid, survey, tile
from foveate.shapes import sum_dtype
from foveate.views.axes import Axis
from foveate.views.background import Step, Worker
from foveate.views.pooling import How, to_log_bytes

__all__ = ["TILE", "MapTile", "Overview", "Overviews"]

TILE = 256  # pixels along a side
CELLS = 2048  # of an overview, along its longer side
STRIP = 1 << 26  # weights of one step
KEPT = 12  # heads whose overviews stay


@dataclass(frozen=True)
class MapTile:
    """Pixels (height, width), at most TILE x TILE, as `to_log_bytes` has them.

    `exact`: from all weights under it. `refined`: how much of the whole overview is done, 0 to 1.
    """

    pixels: NDArray[np.uint8]
    exact: bool
    refined: float


class Overview:
    """The overview of one head for one sequence, made step by step in any thread, and tiles at any zoom.

    Args:
        one: the call, (B, H, Q, K).
        rows, columns: the sequence's queries and keys in it.
        zoom: of a cell; by default that at which the longer side has at most `CELLS`.
    """

    def __init__(
        self, one: AttentionMap, sequence: int, head: int, rows: Axis, columns: Axis, zoom: int | None = None
    ) -> None:
        self.at, self.problem = (sequence, head), one.problem
        self.rows, self.columns = rows.length, columns.length
        self.above, self.before = rows.first, columns.first  # padding
        longest = max(1, self.rows, self.columns)
        self.zoom = max(0, math.ceil(math.log2(longest / CELLS))) if zoom is None else zoom  # of a cell
        self.last_zoom = max(self.zoom, math.ceil(math.log2(longest / TILE)))  # which shows all in one tile
        self.cell = 1 << self.zoom
        self.height, self.width = -(-self.rows // self.cell), -(-self.columns // self.cell)
        lines = max(1, STRIP // max(1, self.cell * self.columns))
        starts = range(0, self.height, lines)
        self._strips = [(first, min(lines, self.height - first)) for first in starts]
        self._order = scattered(len(self._strips))
        self._best = torch.zeros(self.height, self.width)
        self._sums = torch.zeros(self.height, self.width)
        self._done = np.zeros(self.height, dtype=bool)
        self._statistic: Tensor | None = None
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self.error: Exception | None = None
        self.keep: Callable[[Overview], None] = lambda _: None  # called when all rows are passed over

    @property
    def refined(self) -> float:
        """Which part of all rows has been passed over."""
        return float(self._done.mean()) if self.height and self.width else 1.0

    def complete(self) -> Tensor | None:
        """Pass over all rows; the statistic of those of the call (padding NaN; None without rows)."""
        while self.step():
            pass
        return self._statistic

    def picture(self, zoom: int, how: How) -> Tensor:
        """The whole map, (h, w) pixels of a zoom that is not finer than the overview's."""
        height, width = (-(-length >> zoom) for length in (self.rows, self.columns))
        return self._pooled(0, 0, zoom, height, width, how)

    def step(self) -> bool:
        """Pass over some more rows, one thread after the other; False once all are done."""
        with self._turn:
            if not self._order or not self.width:
                return False
            self._pass_over(*self._strips[self._order[0]])
            del self._order[0]
        return True

    def state(self) -> dict[str, Tensor]:
        """A finished overview as tensors; three digits of each cell are enough for a picture."""
        assert self._statistic is not None
        return {"best": self._best.bfloat16(), "sums": self._sums.bfloat16(), "statistic": self._statistic}

    def shapes(self) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """What its `state` looks like."""
        numbers = self.problem.normalizer.numbers
        cells = torch.bfloat16, (self.height, self.width)
        rows = (self.problem.geometry.queries, *(() if numbers is None else (numbers,)))
        return {"best": cells, "sums": cells, "statistic": (sum_dtype(torch.device("cpu")), rows)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Be finished, from a state of these `shapes`; nothing where its numbers cannot be."""
        if all(bool((torch.isfinite(state[name]) & (state[name] >= 0)).all()) for name in ("best", "sums")):
            self._best, self._sums, self._statistic = state["best"].float(), state["sums"].float(), state["statistic"]
            self._done[:] = True
            self._order = []

    def _pass_over(self, first: int, lines: int) -> None:
        grid = self._grid(first * self.cell, 0, self.zoom, lines, self.width)
        statistic, best, sums = survey(self.problem, *self.at, grid)
        rows = grid.rows(self.problem.geometry.queries)
        with self._lock:
            if self._statistic is None:
                self._statistic = statistic.new_full((self.problem.geometry.queries, *statistic.shape[1:]), torch.nan)
            self._statistic[rows] = statistic
            self._best[first : first + lines], self._sums[first : first + lines] = best, sums
            whole = not self._done.all()
            self._done[first : first + lines] = True
            whole &= bool(self._done.all())
        if whole:
            self.keep(self)

    def tile(self, zoom: int, row: int, column: int, how: How) -> MapTile:
        """Tile (row, column) of a zoom, from the top left.

        Raises:
            ValueError: there is no such zoom or tile.
        """
        if not 0 <= zoom <= self.last_zoom:
            raise ValueError(f"zoom must be from 0 to {self.last_zoom}; got {zoom}")
        side = TILE << zoom
        for name, number, length in (("row", row, self.rows), ("column", column, self.columns)):
            last = max(0, (length - 1) // side)
            if not 0 <= number <= last:
                raise ValueError(f"at zoom {zoom} there are {name}s of tiles 0 to {last}; got {number}")
        top, left = row * side, column * side
        height, width = (min(TILE, -(-(n - at) // (1 << zoom))) for n, at in ((self.rows, top), (self.columns, left)))
        if not (height and width):
            return MapTile(np.zeros((height, width), np.uint8), True, 1.0)
        known = self._prepared(top, min(self.rows, top + (height << zoom)))
        if known and zoom < self.zoom:
            assert self._statistic is not None
            pixels = tile(self.problem, self._statistic, *self.at, self._grid(top, left, zoom, height, width, how))
        else:
            pixels = self._pooled(top, left, zoom, height, width, how)
        return MapTile(to_log_bytes(pixels.numpy()), known, self.refined)

    def prepare(self) -> float:
        """Do what takes a moment: all of a small map, something of a large one; returns `refined`."""
        while self.rows * self.columns <= 4 * STRIP and self.step():
            pass
        if not self._done.any():
            self.step()
        return self.refined

    def column(self, start: int, stop: int) -> Tensor:
        """(Q,) float32: how much of each query's attention keys start .. stop - 1 receive; NaN where the query has not
        been passed over yet."""
        self.prepare()
        with self._lock:
            known = torch.from_numpy(self._done.repeat(self.cell)[: self.rows])
            statistic = None if self._statistic is None else self._statistic.clone()
        if statistic is None or stop <= start:
            return torch.zeros(self.rows)
        ends = self.above + self.rows, self.before + self.columns
        grid = Grid(self.above, self.before + start, 1, 1, self.rows, stop - start, "max", *ends)
        return tile(self.problem, statistic, *self.at, grid).sum(1).where(known, torch.nan)

    def _prepared(self, top: int, bottom: int) -> bool:
        """Whether these rows are passed over: they are now, if that takes a moment only. Some always are."""
        cells = slice(top // self.cell, -(-bottom // self.cell))
        with self._lock:
            known, some = bool(self._done[cells].all()), bool(self._done.any())
        if known:
            return True
        if (cells.stop - cells.start) * self.cell * self.columns <= STRIP:
            self._pass_over(cells.start, cells.stop - cells.start)
            return True
        if not some:
            self.step()
        return False

    def _grid(self, top: int, left: int, zoom: int, height: int, width: int, how: How = "max") -> Grid:
        """Cells of the sequence as cells of the call."""
        ends = self.above + self.rows, self.before + self.columns
        return Grid(self.above + top, self.before + left, 1 << zoom, 1 << zoom, height, width, how, *ends)

    def _pooled(self, top: int, left: int, zoom: int, height: int, width: int, how: How) -> Tensor:
        """Pixels out of the overview. Rows that are not done look like the nearest that are, and where a pixel is
        finer than a cell it looks like its cell."""
        rows, columns = (
            slice(at >> self.zoom, min(cells, -(-(at + (count << zoom)) // self.cell)))
            for at, count, cells in ((top, height, self.height), (left, width, self.width))
        )
        with self._lock:
            which = rows if self._done[rows].all() else torch.from_numpy(_nearest(self._done)[rows])
            part = (self._best if how == "max" else self._sums)[which][:, columns].clone()
        each = 1 << max(0, zoom - self.zoom)
        cells = torch.nn.functional.pad(part, (0, -part.shape[1] % each, 0, -part.shape[0] % each))
        cells = cells.unflatten(1, (-1, each)).unflatten(0, (-1, each))
        if how == "max":
            pixels = cells.amax((1, 3))
        else:
            step = self.cell * each
            counts = (
                _counts(self.rows - rows.start * self.cell, step, cells.shape[0]),
                _counts(self.columns - columns.start * self.cell, step, cells.shape[2]),
            )
            pixels = cells.sum((1, 3)) / (counts[0][:, None] * counts[1])
        fine = 1 << max(0, self.zoom - zoom)
        if fine > 1:
            inside = (top >> zoom) % fine, (left >> zoom) % fine
            pixels = pixels.repeat_interleave(fine, 0).repeat_interleave(fine, 1)[inside[0] :, inside[1] :]
        return pixels[:height, :width]


class Overviews:
    """Overviews of the heads that someone looked at last, refined in the background, newest first."""

    def __init__(self, make: Callable[[int, int, int], Overview], worker: Worker) -> None:
        self._make, self._worker = make, worker
        self._held: OrderedDict[tuple[int, int, int], Overview] = OrderedDict()
        self._lock = threading.Lock()
        worker.serve(self._next)

    def get(self, call: int, sequence: int, head: int) -> Overview:
        """The overview of a head, which is refined next."""
        key = call, sequence, head
        with self._lock:
            if key not in self._held:
                self._held[key] = self._make(*key)
            self._held.move_to_end(key)
            while len(self._held) > KEPT:
                self._held.popitem(last=False)
            found = self._held[key]
        if found.error is not None:
            raise found.error
        self._worker.wake()
        return found

    def _next(self) -> Step | None:
        with self._lock:
            rough = (one for one in reversed(self._held.values()) if one.refined < 1 and one.error is None)
            return next(rough, None)


def _nearest(done: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each row the nearest one that is done; itself where none is."""
    places = np.arange(len(done))
    marks = np.flatnonzero(done)
    if not len(marks):
        return places
    after = np.searchsorted(marks, places).clip(0, len(marks) - 1)
    before = (after - 1).clip(0)
    nearer = np.abs(marks[before] - places) <= np.abs(marks[after] - places)
    return np.where(nearer, marks[before], marks[after])


def _counts(length: int, step: int, pixels: int) -> Tensor:
    """How many of `length` places each pixel of `step` places covers."""
    return (length - step * torch.arange(pixels)).clamp(max=step)
