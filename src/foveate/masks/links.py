"""Single links: pairs of a query and a key, as they stand in one call."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..describe import describable
from ..shapes import Geometry
from .base import Coverage, Mask, MaskMod, Span

__all__ = ["Links"]

_WIDTH = 1 << 31


@describable
@dataclass(frozen=True, eq=False)
class Links(Mask):
    """True at these pairs, (1, P, 2) rows and columns, in these heads (H,), booleans, and sequences (1, S), or all."""

    pairs: Tensor
    heads: Tensor | None = None
    sequences: Tensor | None = None

    def __post_init__(self) -> None:
        if self.pairs.ndim != 3 or self.pairs.shape[0] != 1 or self.pairs.shape[2] != 2 or not _whole(self.pairs):
            raise ValueError(f"links are whole numbers (1, P, 2); got {self.pairs.dtype} {tuple(self.pairs.shape)}")
        if self.heads is not None and (self.heads.ndim != 1 or self.heads.dtype != torch.bool):
            raise ValueError("the heads of links are booleans (H,)")
        if self.sequences is not None and (self.sequences.ndim != 2 or not _whole(self.sequences)):
            raise ValueError("the sequences of links are whole numbers (1, S)")

    def predicate(self, g: Geometry) -> MaskMod:
        if self.heads is not None and len(self.heads) != g.heads:
            raise ValueError(f"links of {len(self.heads)} heads do not fit {g.heads}")
        codes = self.pairs[0, :, 0] * _WIDTH + self.pairs[0, :, 1]

        def linked(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            ok = torch.isin(q.to(torch.int64) * _WIDTH + k, codes.to(k.device))
            if self.heads is not None:
                ok = ok & self.heads.to(k.device)[h]
            if self.sequences is not None:
                ok = ok & torch.isin(b, self.sequences.to(k.device))
            return ok

        return linked

    def coverage(self, g: Geometry, rows: Span, columns: Span) -> Coverage:
        q, k = self.pairs[0].unbind(-1)
        inside = (q >= rows[0]) & (q < rows[1]) & (k >= columns[0]) & (k < columns[1])
        return Coverage.SOME if bool(inside.any()) else Coverage.NONE

    def __str__(self) -> str:
        return f"links({self.pairs.shape[1]})"


def _whole(t: Tensor) -> bool:
    return t.dtype in (torch.int32, torch.int64)
