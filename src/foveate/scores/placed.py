"""Scores that depend on where the query and the key stand, or on the keys between them.

Axes: B batch, H query heads, G key heads, Q queries, K keys, D query width, E key width; R rows and C columns of a
block, b and h some batches and heads, P points.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..shapes import Picked
from .base import Score

__all__ = ["Placed"]


class Placed(Score):
    """Base of scores asked with places and all queries and keys at hand. Subclasses define `block` and `points`."""

    def block(
        self,
        q_BHQD: Float[Tensor, "B H Q D"],
        k_BGKE: Float[Tensor, "B G K E"],
        at: tuple[slice, slice, Picked, Picked],
    ) -> Float[Tensor, "b h R C"]:
        """Scores of a block: some batches, heads, rows and columns."""
        raise NotImplementedError

    def points(
        self, q_BHQD: Float[Tensor, "B H Q D"], k_BGKE: Float[Tensor, "B G K E"], at: tuple[Tensor, ...]
    ) -> Float[Tensor, " P"]:
        """Scores of single entries, at four index tensors (P,)."""
        raise NotImplementedError

    def to(self, device: Any) -> Placed:
        """The same score elsewhere."""
        return self

    def __call__(self, q: Tensor, k: Tensor) -> Tensor:
        raise TypeError(f"the score '{self.name}' depends on where queries and keys stand; ask it for a block")
