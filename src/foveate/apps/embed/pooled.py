"""What a page knows of a call without computing it: a pooled picture of each head, and the largest weights of each row.

Axes: B batch, H heads, Q queries, K keys, k kept of each row, h and w cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from foveate.apps.embed.exact import Axes, shifted
from foveate.apps.embed.parts import Parts
from foveate.map import AttentionMap
from foveate.normalizers import Softmax
from foveate.operator import Block
from foveate.shapes import Geometry
from foveate.stats import Entropy, TopK
from foveate.views.overview import Overview
from foveate.views.pooling import to_log_bytes

__all__ = ["cells_of", "overview", "top"]

MOST_CELLS = 2048  # along the longer side of a picture
ALL_CELLS = 5 << 19  # of all heads of a page: one head has 1,024 x 1,024, 144 heads have 128 x 128

Tell = Callable[[float], None]


def cells_of(heads: int, size: float) -> int:
    """How many cells the longer side of each picture has at most, in a page of so many heads and about so many bytes: a
    power of two."""
    side = math.isqrt(int(max(ALL_CELLS, size / 8)) // max(1, heads))
    return max(16, min(MOST_CELLS, 1 << max(0, side.bit_length() - 1)))


def overview(one: AttentionMap, axes: Axes, cells: int, parts: Parts, tell: Tell) -> tuple[dict[str, Any], Tensor]:
    """Pictures of all heads: the largest weight of each cell, and the means at half as many cells a side.

    Returns their references, and the rows' first statistic (B, H, Q) as found on the way, padding NaN.
    """
    batch, heads, queries, _ = one.problem.geometry.shape
    longest = max([1, *(axis.length for both in axes for axis in both)])
    zoom = max(0, math.ceil(math.log2(longest / cells)))
    coarse = zoom + 1
    sizes = [[max([1, *(-(-both[n].length >> z) for both in axes)]) for n in range(2)] for z in (zoom, coarse)]
    best, mean = (np.zeros((batch, heads, *size), np.uint8) for size in sizes)
    statistic = torch.full((batch, heads, queries), torch.nan)
    for sequence, (rows, columns) in enumerate(axes):
        for head in range(heads):
            view = Overview(one, sequence, head, rows, columns, zoom)
            known = view.complete()
            for pictures, found in ((best, view.picture(zoom, "max")), (mean, view.picture(coarse, "mean"))):
                h, w = found.shape
                pictures[sequence, head, :h, :w] = to_log_bytes(found.numpy())
            if known is not None:
                statistic[sequence, head] = known if known.ndim == 1 else known[:, 0]
            tell((sequence * heads + head + 1) / (heads * len(axes)))
    levels = {
        "max": {"zoom": zoom, "cells": parts.add(best, "uint8")},
        "mean": {"zoom": coarse, "cells": parts.add(mean, "uint8")},
    }
    return levels, statistic


def top(one: AttentionMap, axes: Axes, k: int, parts: Parts, tell: Tell) -> tuple[dict[str, Any], dict[str, Any]]:
    """The k largest weights of each row, by the place of their keys, and what is left of the row's sum.

    Returns their references, and the mean entropy of each head.
    """
    k = max(1, min(k, one.problem.geometry.keys))
    with torch.no_grad():
        (weights, places), entropies = one.reduce(TopK(k), Entropy(), progress=tell)
        weights = weights.nan_to_num(0.0)
        rest = torch.where(weights[..., -1] > 0, (_mass(one, weights) - weights.sum(-1)).clamp(min=0), 0)
        rest = torch.zeros_like(rest) if k == one.problem.geometry.keys else rest
    left = torch.tensor([columns.first for _, columns in axes]).reshape(-1, 1, 1, 1)
    unseen = 1 << 30
    order = torch.where(weights > 0, places - left, unseen).argsort(-1)
    weights, places = weights.gather(-1, order), torch.where(weights > 0, places - left, 0).gather(-1, order)
    places = places.cummax(-1).values  # what is no weight repeats the last place
    above = [rows.first for rows, _ in axes]
    kept = {
        "k": k,
        "places": parts.add_places(shifted(places, above, 2)),
        "weights": parts.add_floats(shifted(weights, above, 2), True),
        "rest": parts.add_floats(shifted(rest, above, 2), True),
    }
    return kept, {"entropy": mean_entropy(entropies, axes)}


def mean_entropy(entropies: Tensor, axes: Axes) -> list[list[float]]:
    """Of each head, in nats, for each sequence; `entropies` (B, H, Q)."""
    parts = [each[:, rows.at(0, rows.length)] for each, (rows, _) in zip(entropies, axes, strict=True)]
    return [(part.double().nansum(-1) / max(1, part.shape[-1])).tolist() for part in parts]


def _mass(one: AttentionMap, weights: Tensor) -> Tensor:
    """The sum of each row's weights, (B, H, Q)."""
    normalizer = one.problem.normalizer
    if not isinstance(normalizer, Softmax):
        found: Tensor = one.reduce(_Sum())
        return found.to(weights.dtype)
    seen = (weights[..., 0] > 0).to(weights.dtype)
    if normalizer.sinks is None:
        return seen
    taken = torch.exp(normalizer.sinks[:, None] - one.logsumexp())
    return torch.where(seen > 0, 1 - taken.to(weights.dtype), 0)


@dataclass(frozen=True)
class _Sum:
    """A reducer: the sum of each row."""

    per_query: ClassVar[bool] = True

    def start(self, g: Geometry, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.zeros((g.batch, g.heads, g.queries), dtype=dtype, device=device)

    def update(self, state: Tensor, block: Block) -> Tensor:
        state[block.batch, block.heads, block.rows] += block.weights.nan_to_num(0.0).sum(-1)
        return state

    def merge(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def result(self, state: Tensor) -> Tensor:
        return state
