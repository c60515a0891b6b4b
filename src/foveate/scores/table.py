"""A "score" that is looked up: what makes weights that are given as numbers a map like any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..shapes import Picked
from .placed import Placed

__all__ = ["Table"]


@dataclass(frozen=True, eq=False)
class Table(Placed):
    """The "score" of a query and a key: the weight that was given for them, (B, H, Q, K)."""

    weights: Tensor

    fresh = False

    @property
    def name(self) -> str:
        return "given"

    def block(self, q_BHQD: Tensor, k_BGKE: Tensor, at: tuple[slice, slice, Picked, Picked]) -> Tensor:
        batch, heads, rows, columns = at
        found = self.weights[batch, heads][:, :, rows][..., columns]
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def points(self, q_BHQD: Tensor, k_BGKE: Tensor, at: tuple[Tensor, ...]) -> Tensor:
        found = self.weights[at]
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def to(self, device: Any) -> Table:
        return Table(self.weights.to(device))
