"""What one pass of a model leaves behind of each attention call: weights as a view, values, and a gradient.

Axes: H query heads, G key/value heads, N tokens (keys), Q queries (the tokens, or what pools them), R some of them,
V value width, E model width.
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
    """One call of attention to the tokens of the text.

    `weights` is a map (1, H, Q, N), `value_GNV` what was read, `gradient_HQV` the gradient of the target's log-odds by
    the heads' outputs, and `projection_HVE` what these are multiplied with, where it is known.
    """

    name: str
    weights: AttentionMap
    value_GNV: Tensor
    gradient_HQV: Tensor
    projection_HVE: Tensor | None = None

    def values(self) -> Tensor:
        """The values that each query head reads, (H, N, V), in float64."""
        each_HNV = self.value_GNV.repeat_interleave(self.weights.shape[1] // len(self.value_GNV), dim=0)
        return each_HNV.double()

    @property
    def among_tokens(self) -> bool:
        """Whether tokens read tokens; else something of the model's own reads them, such as a pooling query."""
        return bool(self.weights.shape[-2] == self.weights.shape[-1])


def blocks(weights: AttentionMap, sequence: int = 0) -> Iterator[tuple[slice, Tensor]]:
    """All weights of one sequence of a map (B, H, Q, N), some rows at a time: which rows, and (H, R, N) in float64."""
    _, heads, queries, keys = weights.shape
    step = max(1, _NUMBERS // max(1, heads * keys))
    for first in range(0, queries, step):
        rows = slice(first, min(first + step, queries))
        yield rows, weights[sequence, :, rows].double()
