"""What one pass of a model leaves behind of each attention call: weights as a view, values, and a gradient.

Axes: H query heads, G key/value heads, N tokens (queries and keys), R some of them, V value width, E model width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ..map import AttentionMap

__all__ = ["Layer", "blocks"]

_NUMBERS = 1 << 22  # weights computed at a time


@dataclass(frozen=True)
class Layer:
    """One call of self-attention over the text.

    `weights` is a map (1, H, N, N), `value_GNV` what was read, `gradient_HNV` the gradient of the target's log
    probability by the heads' outputs, and `projection_HVE` what the outputs are multiplied with where it is known.
    """

    name: str
    weights: AttentionMap
    value_GNV: Tensor
    gradient_HNV: Tensor
    projection_HVE: Tensor | None = None

    @property
    def heads(self) -> int:
        return int(self.weights.shape[1])

    @property
    def value_HNV(self) -> Tensor:
        """The values that each query head reads."""
        return self.value_GNV.repeat_interleave(self.heads // len(self.value_GNV), dim=0)


def blocks(weights: AttentionMap) -> Iterator[tuple[slice, Tensor]]:
    """All weights of a map (1, H, N, N), some rows at a time: which rows, and (H, R, N) in float64."""
    _, heads, queries, keys = weights.shape
    step = max(1, _NUMBERS // max(1, heads * keys))
    for first in range(0, queries, step):
        rows = slice(first, min(first + step, queries))
        yield rows, weights[0, :, rows].double()
