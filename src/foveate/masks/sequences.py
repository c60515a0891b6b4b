"""Masks for batches of sequences of unequal length: padding, and several documents packed into one row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from ..describe import describable
from ..shapes import Geometry, Layout, as_tensor
from .base import Coverage, Mask, MaskMod, Span

__all__ = ["Documents", "Padding", "documents", "padding"]


@describable
@dataclass(frozen=True, eq=False)
class Padding(Mask):
    """Keys inside each sequence's length: the first ones, or (`side="left"`) the last ones."""

    lengths: Tensor
    side: str = "right"

    def __post_init__(self) -> None:
        _check_whole(self.lengths, "padding lengths")
        if self.side not in ("right", "left"):
            raise ValueError(f"side must be 'right' or 'left'; got {self.side!r}")

    @cached_property
    def _range(self) -> Span:
        n = self.lengths
        return (int(n.min()), int(n.max())) if n.numel() else (0, 0)

    def predicate(self, g: Geometry) -> MaskMod:
        lengths, keys, left = self.lengths, g.keys, self.side == "left"

        def padding(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            length = lengths.to(k.device)[b]
            return k >= keys - length if left else k < length

        return padding

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        shortest, longest = self._range
        low, high = columns if self.side == "right" else (g.keys - columns[1], g.keys - columns[0])
        if high <= shortest:
            return Coverage.ALL
        return Coverage.NONE if low >= longest else Coverage.SOME

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        if self.lengths.numel() != g.batch:
            raise ValueError(f"padding needs one length per sequence, {g.batch}; got {self.lengths.numel()}")
        if self._range[0] < 0 or self._range[1] > g.keys:
            raise ValueError(f"padding lengths must lie between 0 and the number of keys, {g.keys}")
        return self

    def __str__(self) -> str:
        return "padding" if self.side == "right" else "padding(side='left')"


@describable
@dataclass(frozen=True, eq=False)
class Documents(Mask):
    """A query sees the keys of its own document; `ids` (K,) or (B, K) number the documents of packed sequences."""

    ids: Tensor

    def __post_init__(self) -> None:
        _check_whole(self.ids, "document ids")

    def predicate(self, g: Geometry) -> MaskMod:
        ids, offset = self.ids, g.offset

        def documents(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            place = q + offset
            inside, place, table = place >= 0, place.clamp(min=0), ids.to(k.device)
            if table.ndim == 1:
                return inside & (table[place] == table[k])
            return inside & (table[b, place] == table[b, k])

        return documents

    def settle(self, layout: Layout, g: Geometry) -> Mask:
        if tuple(self.ids.shape) == (g.keys,):
            return self
        if tuple(self.ids.shape) not in ((g.batch, g.keys), (*layout.lead, g.keys)):
            raise ValueError(
                f"document ids must have shape ({g.keys},) or ({g.batch}, {g.keys}); got {tuple(self.ids.shape)}"
            )
        return Documents(self.ids.reshape(g.batch, g.keys))

    @cached_property
    def _at_hand(self) -> Tensor:
        return self.ids.detach().cpu().reshape(-1, self.ids.shape[-1])

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        first, last = rows[0] + g.offset, rows[1] + g.offset
        if last <= 0 or self._at_hand.numel() == 0:
            return Coverage.NONE
        low, high = torch.aminmax(self._at_hand[:, max(first, 0) : last], dim=-1)
        lowest, highest = torch.aminmax(self._at_hand[:, slice(*columns)], dim=-1)
        if bool(((high < lowest) | (highest < low)).all()):
            return Coverage.NONE
        same = (low == high) & (lowest == highest) & (low == lowest)
        return Coverage.ALL if first >= 0 and bool(same.all()) else Coverage.SOME

    def __str__(self) -> str:
        return "documents"


def padding(lengths: Tensor | list[int], side: Literal["right", "left"] = "right") -> Mask:
    """Hide the padding keys. `lengths` (batch,): real keys per sequence; `side`: where the padding lies.

    Raises:
        ValueError: lengths that are no whole numbers, or an unknown side.
    """
    return Padding(_whole(lengths, "padding lengths").reshape(-1), side)


def documents(ids: Tensor | list[int]) -> Mask:
    """Sequences packed into one: a query sees only its own document. `ids` (K,) or (B, K), whole numbers."""
    return Documents(_whole(ids, "document ids"))


def _whole(values: Any, name: str) -> Tensor:
    t = as_tensor(values)
    if t.numel() == 0:
        return t.to(torch.int64)
    _check_whole(t, name)
    return t.to(torch.int64)


def _check_whole(t: Tensor, name: str) -> None:
    if t.dtype.is_floating_point or t.dtype.is_complex or t.dtype == torch.bool:
        raise ValueError(f"{name} must be whole numbers; got {t.dtype}")
