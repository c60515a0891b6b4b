"""The normaliser of weights that are given as numbers: it leaves them as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..describe import describable
from ..shapes import Picked
from .base import Blocks, Normalizer, safe

__all__ = ["AsGiven"]


@describable
@dataclass(frozen=True)
class AsGiven(Normalizer):
    """What was looked up is the weight; rows need not sum to 1."""

    means: ClassVar[str] = "sum"

    @property
    def name(self) -> str:
        return "given"

    def statistic(self, blocks: Blocks, empty: Tensor, heads: Any = slice(None)) -> Tensor:
        total = torch.zeros_like(empty)
        for _, s in blocks:
            total = total + safe(s).sum(-1).to(total.dtype)
        return total

    def weights(self, s: Tensor, statistic: Tensor, columns: Picked = slice(0, 0)) -> Tensor:
        return safe(s)

    def dense(self, s_BHQK: Tensor) -> Tensor:
        return safe(s_BHQK)
