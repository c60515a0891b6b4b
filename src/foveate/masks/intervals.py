"""A mask that says of every query which run of keys it sees, two numbers a row.

Axes: B batch, Q queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from ..describe import describable
from ..shapes import Geometry, Layout
from .base import Coverage, Mask, MaskMod, Span, check_whole

__all__ = ["Intervals"]


@describable
@dataclass(frozen=True, eq=False)
class Intervals(Mask):
    """Query i of sequence b sees keys `first[b, i]` up to, not including, `last[b, i]`; plain indices, (B|1, Q)."""

    first: Int[Tensor, "B Q"]
    last: Int[Tensor, "B Q"]

    def __post_init__(self) -> None:
        for t, name in ((self.first, "first keys"), (self.last, "last keys")):
            check_whole(t, name)
            if t.ndim != 2 or t.shape != self.first.shape:
                shapes = f"{tuple(self.first.shape)} and {tuple(self.last.shape)}"
                raise ValueError(f"first and last keys must have one shape, (batch, queries); got {shapes}")

    @cached_property
    def _hulls(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The least and the greatest first key of every query over all sequences, and of the last one."""
        first, last = self.first.detach().cpu(), self.last.detach().cpu()
        return first.amin(0), first.amax(0), last.amin(0), last.amax(0)

    def predicate(self, g: Geometry) -> MaskMod:
        first, last = self.first, self.last

        def inside(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            low, high = first.to(k.device), last.to(k.device)
            row = b if low.shape[0] > 1 else torch.zeros_like(b)
            return (k >= low[row, q]) & (k < high[row, q])

        return inside

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        low, latest, soonest, high = (t[slice(*rows)] for t in self._hulls)
        if bool(((low >= columns[1]) | (high <= columns[0])).all()):
            return Coverage.NONE
        everywhere = bool((latest <= columns[0]).all()) and bool((soonest >= columns[1]).all())
        return Coverage.ALL if everywhere else Coverage.SOME

    @property
    def is_causal(self) -> bool:
        return False  # whether a key comes after its query depends on how many keys there are

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        if self.first.shape[0] not in (1, g.batch) or self.first.shape[1] != g.queries:
            raise ValueError(
                f"intervals must have the shape (batch, queries) = ({g.batch}, {g.queries}), or (1, {g.queries}); "
                f"got {tuple(self.first.shape)}"
            )
        return self

    def __str__(self) -> str:
        return "intervals"
