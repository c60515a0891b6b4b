"""Read an index such as `[0, 3, 1000:1256, ...]` into one pick per axis, so that only what it touches is computed."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Pick", "cover", "is_pointwise", "picks", "spread"]

Pick = int | range | Tensor
OUTER_LIMIT = 8  # how much larger than the result the outer product of index arrays may be


def picks(index: Any, shape: tuple[int, ...]) -> list[Pick]:
    """One int, range or int64 tensor per axis, all non-negative and in range.

    Raises:
        IndexError: too many indices, out of range, `None`, or a mask of the wrong length.
    """
    items = list(index) if isinstance(index, tuple) else [index]
    if any(item is None for item in items):
        raise IndexError("weights take no new axis (None); add it to the result")
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index may hold one ellipsis only")
    if len(items) - len(dots) > len(shape):
        raise IndexError(f"weights of shape {shape} take {len(shape)} indices; got {len(items) - len(dots)}")
    at = dots[0] if dots else len(items)
    missing = len(shape) - (len(items) - len(dots))
    items[at : at + len(dots)] = [slice(None)] * missing
    return [_pick(item, size, axis) for axis, (item, size) in enumerate(zip(items, shape, strict=True))]


def _pick(item: Any, size: int, axis: int) -> Pick:
    if isinstance(item, slice):
        return range(*item.indices(size))
    if isinstance(item, bool | np.bool_):
        raise IndexError("a single boolean is no index")
    if not isinstance(item, list | tuple | np.ndarray | Tensor | range):
        try:
            place = operator.index(item)
        except TypeError:
            raise IndexError(
                f"weights are indexed by ints, slices, an ellipsis and index arrays; got {type(item).__name__}"
            ) from None
        if not -size <= place < size:
            raise IndexError(f"index {place} is out of range for axis {axis} of size {size}")
        return place % size
    t = torch.as_tensor(np.asarray(item) if not isinstance(item, Tensor) else item.detach().cpu())
    if t.numel() == 0 and t.dtype != torch.bool:
        t = t.to(torch.int64)
    if t.dtype == torch.bool:
        if tuple(t.shape) != (size,):
            raise IndexError(f"a boolean index of axis {axis} must have shape ({size},); got {tuple(t.shape)}")
        return t.nonzero()[:, 0]
    if t.dtype.is_floating_point or t.dtype.is_complex:
        raise IndexError(f"index arrays hold whole numbers or booleans; got {t.dtype}")
    if t.ndim == 0:
        return _pick(int(t), size, axis)
    t = t.to(torch.int64)
    if t.numel() and (int(t.min()) < -size or int(t.max()) >= size):
        raise IndexError(f"an index array for axis {axis} of size {size} is out of range")
    return torch.where(t < 0, t + size, t)


def is_pointwise(chosen: list[Pick]) -> bool:
    """Whether the picks name single entries (arrays and ints on every axis) rather than a part of the matrix."""
    return any(isinstance(p, Tensor) for p in chosen) and not any(isinstance(p, range) for p in chosen)


def cover(chosen: list[Pick]) -> tuple[list[range | Tensor], tuple[Any, ...]]:
    """The smallest set of indices per axis whose outer product holds all that is asked, and the index into it."""
    spans: list[range | Tensor] = []
    local: list[Any] = []
    for p in chosen:
        if isinstance(p, int):
            spans.append(range(p, p + 1))
            local.append(0)
        elif isinstance(p, range):
            spans.append(p)
            local.append(slice(None))
        else:
            unique, place = torch.unique(p, return_inverse=True)
            spans.append(unique)
            local.append(place)
    return spans, tuple(local)


def spread(chosen: list[Pick], numpy: bool) -> list[Pick] | None:
    """Index arrays of the result's own shape, one per axis, where several arrays and a slice meet and the outer
    product of `cover` would be much larger than the result; else None.

    Arrays with a slice between them put their axes first; NumPy counts an int as an array there, torch does not.
    """
    at = [i for i, p in enumerate(chosen) if isinstance(p, Tensor)]
    if len(at) < 2:
        return None
    shape = _broadcast([p for p in chosen if isinstance(p, Tensor)])
    ranges = [i for i, p in enumerate(chosen) if isinstance(p, range)]
    outer = math.prod(p.unique().numel() for p in chosen if isinstance(p, Tensor))
    if outer <= OUTER_LIMIT * math.prod(shape):
        return None
    counted = [i for i, p in enumerate(chosen) if isinstance(p, Tensor) or (numpy and isinstance(p, int))]
    apart = any(counted[0] < i < counted[-1] for i in ranges)
    before = 0 if apart else sum(i < counted[0] for i in ranges)
    arrays: list[Pick] = []
    for i, p in enumerate(chosen):
        if isinstance(p, Tensor):
            arrays.append(p[(...,) + (None,) * (len(ranges) - before)])
        elif isinstance(p, range):
            n = ranges.index(i)
            behind = len(ranges) - 1 - n + (len(shape) if n < before else 0)
            arrays.append(torch.tensor(list(p), dtype=torch.int64)[(...,) + (None,) * behind])
        else:
            arrays.append(p)
    return arrays


def _broadcast(arrays: list[Tensor]) -> tuple[int, ...]:
    try:
        return tuple(torch.broadcast_shapes(*(a.shape for a in arrays)))
    except RuntimeError:
        shapes = ", ".join(str(tuple(a.shape)) for a in arrays)
        raise IndexError(f"index arrays must broadcast against each other; got {shapes}") from None
