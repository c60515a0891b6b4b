"""Pictures of weights: any number of rows and columns brought to a few pixels, and one byte for each pixel.

Pixel p of `size` over n entries pools the entries from floor(p n / size) up to ceil((p + 1) n / size).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from foveate.operator.problem import Block
from foveate.shapes import Geometry

DECADES = 6  # between a byte of 1 and one of 255
How = Literal["max", "mean"]
Floats = NDArray[np.float32]
Whole = NDArray[np.int64]


class Pool:
    """Pools blocks of a matrix (heads, rows, columns), in any order, into a picture (heads, height, width)."""

    def __init__(self, heads: int, rows: int, columns: int, height: int, width: int, how: How) -> None:
        self.join: np.ufunc = np.maximum if how == "max" else np.add
        self.mean = how == "mean"
        self.rows, self.columns = _bins(rows, height), _bins(columns, width)
        self.picture: Floats = np.zeros((heads, height, width), dtype=np.float32)

    def update(self, first: int, block: Floats, left: int = 0, heads: slice = slice(None)) -> None:
        """`block` (some heads, some rows, some columns) starts at row `first` and column `left`."""
        across, columns = _clipped(self.columns, left, block.shape[2])
        down, rows = _clipped(self.rows, first, block.shape[1])
        part = _join(self.join, _join(self.join, block, *columns, axis=2), *rows, axis=1)
        self.picture[heads, down, across] = self.join(self.picture[heads, down, across], part)

    def result(self) -> Floats:
        if not self.mean:
            return self.picture
        heights, widths = (stops - starts for starts, stops in (self.rows, self.columns))
        return np.asarray(self.picture / (heights[:, None] * widths[None, :]), dtype=np.float32)


@dataclass(frozen=True)
class PooledHeads:
    """A reducer: every head of a map as `size` x `size` pixels, (B, H, size, size), by this module's rule."""

    size: int
    per_query: ClassVar[bool] = False

    def start(self, g: Geometry, dtype: torch.dtype, device: torch.device) -> list[Pool]:
        return [Pool(g.heads, g.queries, g.keys, self.size, self.size, "max") for _ in range(g.batch)]

    def update(self, state: list[Pool], block: Block) -> list[Pool]:
        weights = block.weights.detach().float().cpu().numpy()
        for pool, part in zip(state[block.batch], weights, strict=True):
            if part.size:
                pool.update(block.rows.start, part, block.columns.start, block.heads)
        return state

    def merge(self, a: list[Pool], b: list[Pool]) -> list[Pool]:
        for one, other in zip(a, b, strict=True):
            np.maximum(one.picture, other.picture, out=one.picture)
        return a

    def result(self, state: list[Pool]) -> torch.Tensor:
        return torch.from_numpy(np.stack([pool.picture for pool in state]))


def _clipped(bins: tuple[Whole, Whole], first: int, count: int) -> tuple[slice, tuple[Whole, Whole]]:
    """Which pixels the entries first .. first + count - 1 fall into, and the part of each pixel's span among them."""
    starts, stops = bins
    low = int(np.searchsorted(stops, first, side="right"))
    high = int(np.searchsorted(starts, first + count, side="left"))
    return slice(low, high), ((starts[low:high] - first).clip(0, count), (stops[low:high] - first).clip(0, count))


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


def to_log_bytes(picture: Floats) -> NDArray[np.uint8]:
    """Weights as bytes, on one scale for all pictures: 255 is 1, 1 is 10^-6 or less, even ratios between; 0 is 0."""
    known = np.nan_to_num(picture, nan=0.0, posinf=1.0, neginf=0.0)
    steps = 255 + 254 / DECADES * np.log10(np.maximum(known, 10.0**-DECADES))
    return np.where(known > 0, np.rint(steps).clip(1, 255), 0).astype(np.uint8)


def to_bytes(picture: Floats) -> tuple[NDArray[np.uint8], Floats]:
    """(heads, height, width) -> the same in bytes, 255 = the head's peak, and the peaks (heads,); NaN shows as 0."""
    known = np.nan_to_num(picture, nan=0.0, posinf=0.0, neginf=0.0)
    peaks = known.reshape(len(known), -1).max(axis=1, initial=0.0)
    scaled = known / np.where(peaks > 0, peaks, 1)[:, None, None]
    return np.rint(255 * scaled).clip(0, 255).astype(np.uint8), peaks
