"""Which runs of a row-major tensor a basic index touches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

__all__ = ["Run", "plan"]


@dataclass(frozen=True)
class Run:
    """Elements `start` to `stop` of the flat tensor."""

    start: int
    stop: int


def plan(shape: tuple[int, ...], index: Any) -> tuple[list[Run], tuple[int, ...], tuple[Any, ...]]:
    """Runs to read for `tensor[index]`, the shape they form together, and the index to apply to that.

    Leading axes are read exactly. From the first axis after which every axis is taken whole, one run covers a
    range; where the last axis is not taken whole, whole rows are read and cut afterwards.

    Raises:
        IndexError: too many indices, out of range, or an index that is no int, slice or ellipsis.
    """
    picks = [_pick(size, item, axis) for axis, (size, item) in enumerate(zip(shape, _fill(shape, index), strict=True))]
    last = len(shape) - 1
    split = last
    while split > 0 and _is_whole(picks[split], shape[split]):
        split -= 1
    if split == last and last > 0:  # part of a row: read the rows whole
        split = last - 1
    if not shape:
        return [Run(0, 1)], (), ()
    inner = math.prod(shape[split + 1 :])
    low, high = _bounds(picks[split])
    strides = [math.prod(shape[a + 1 :]) for a in range(split)]
    outer = [range(p, p + 1) if isinstance(p, int) else p for p in picks[:split]]
    runs = []
    for place in itertools.product(*outer):
        base = sum(i * s for i, s in zip(place, strides, strict=True))
        runs.append(Run(base + low * inner, base + high * inner))
    formed = (*(len(r) for r in outer), high - low, *shape[split + 1 :])
    rest: list[Any] = [0 if isinstance(p, int) else slice(None) for p in picks[:split]]
    rest.append(_local(picks[split], low))
    rest += [p if isinstance(p, int) else slice(p.start, p.stop, p.step) for p in picks[split + 1 :]]
    return _join(runs), formed, tuple(rest)


def _fill(shape: tuple[int, ...], index: Any) -> list[Any]:
    items = list(index) if isinstance(index, tuple) else [index]
    dots = [i for i, item in enumerate(items) if isinstance(item, EllipsisType)]
    if len(dots) > 1:
        raise IndexError("an index can have one ellipsis at most")
    missing = len(shape) - (len(items) - len(dots))
    if missing < 0:
        raise IndexError(f"too many indices: {len(items)} for {len(shape)} axes")
    at = dots[0] if dots else len(items)
    return items[:at] + [slice(None)] * missing + items[at + len(dots) :]


def _pick(size: int, item: Any, axis: int) -> int | range:
    if isinstance(item, slice):
        chosen = range(*item.indices(size))
        if chosen.step < 0:
            raise IndexError("slices of a stored tensor step forward")
        return chosen if len(chosen) else range(0)
    if isinstance(item, bool) or not hasattr(item, "__index__"):
        raise IndexError("a stored tensor takes ints, slices and an ellipsis; load() it for anything else")
    i = item.__index__()
    if not -size <= i < size:
        raise IndexError(f"index {i} is out of range for axis {axis} with size {size}")
    return i % size


def _is_whole(pick: int | range, size: int) -> bool:
    return isinstance(pick, range) and pick == range(size)


def _bounds(pick: int | range) -> tuple[int, int]:
    if isinstance(pick, int):
        return pick, pick + 1
    return (pick[0], pick[-1] + 1) if len(pick) else (0, 0)


def _local(pick: int | range, low: int) -> Any:
    if isinstance(pick, int):
        return 0
    return slice(0, pick[-1] + 1 - low, pick.step) if len(pick) else slice(0, 0)


def _join(runs: Iterable[Run]) -> list[Run]:
    joined: list[Run] = []
    for run in runs:
        if joined and joined[-1].stop == run.start:
            joined[-1] = Run(joined[-1].start, run.stop)
        else:
            joined.append(run)
    return joined
