"""Pictures of weights: any number of rows and columns brought to a few pixels, and one byte for each pixel.

Pixel p of `size` over n entries pools the entries from floor(p n / size) up to ceil((p + 1) n / size).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

How = Literal["max", "mean"]
Floats = NDArray[np.float32]
Whole = NDArray[np.int64]


class Pool:
    """Pools rows, handed over a few at a time, into a picture (heads, height, width)."""

    def __init__(self, heads: int, rows: int, columns: int, height: int, width: int, how: How) -> None:
        self.join: np.ufunc = np.maximum if how == "max" else np.add
        self.mean = how == "mean"
        self.rows, self.columns = _bins(rows, height), _bins(columns, width)
        self.picture: Floats = np.zeros((heads, height, width), dtype=np.float32)

    def update(self, first: int, block: Floats) -> None:
        """`block` (heads, some rows, columns) starts at row `first`."""
        last = first + block.shape[1]
        starts, stops = self.rows
        low = int(np.searchsorted(stops, first, side="right"))
        high = int(np.searchsorted(starts, last, side="left"))
        narrow = _join(self.join, block, *self.columns, axis=2)
        inside = starts[low:high].clip(first, last) - first, stops[low:high].clip(first, last) - first
        part = _join(self.join, narrow, *inside, axis=1)
        self.picture[:, low:high] = self.join(self.picture[:, low:high], part)

    def result(self) -> Floats:
        if not self.mean:
            return self.picture
        heights, widths = (stops - starts for starts, stops in (self.rows, self.columns))
        return np.asarray(self.picture / (heights[:, None] * widths[None, :]), dtype=np.float32)


def _bins(entries: int, size: int) -> tuple[Whole, Whole]:
    pixel = np.arange(size, dtype=np.int64)
    return pixel * entries // size, -(-(pixel + 1) * entries // size)


def _join(join: np.ufunc, block: Floats, starts: Whole, stops: Whole, axis: int) -> Floats:
    """Join the entries starts[p] .. stops[p] - 1 along `axis`, for every p. Weights are >= 0, so 0 changes nothing."""
    size, count = block.shape[axis], len(starts)
    step = size // count
    if size % count == 0 and np.array_equal(stops, starts + step) and starts[0] == 0 and stops[-1] == size:
        shape = (*block.shape[:axis], count, step, *block.shape[axis + 1 :])
        return np.asarray(join.reduce(block.reshape(shape), axis=axis + 1)) if step > 1 else block
    edges = np.stack([starts, stops], axis=1).ravel()
    if edges[-1] == size:
        edges = edges[:-1]
    if edges.max() == size:  # several pixels end with the last entry: give their end a place
        padding = [(0, 1 if other == axis else 0) for other in range(block.ndim)]
        block = np.pad(block, padding)
    joined = join.reduceat(block, edges, axis=axis)
    return np.asarray(joined[(slice(None),) * axis + (slice(None, None, 2),)])


def to_bytes(picture: Floats) -> tuple[NDArray[np.uint8], Floats]:
    """(heads, height, width) -> the same in bytes, 255 = the head's peak, and the peaks (heads,); NaN shows as 0."""
    known = np.nan_to_num(picture, nan=0.0, posinf=0.0, neginf=0.0)
    peaks = known.reshape(len(known), -1).max(axis=1, initial=0.0)
    scaled = known * (255 / np.where(peaks > 0, peaks, 1))[:, None, None]
    return np.rint(scaled).clip(0, 255).astype(np.uint8), peaks
