"""A "score" that is looked up: what makes weights that are given as numbers a map like any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..describe import describable
from ..shapes import Picked
from .placed import Placed

__all__ = ["Table"]


@describable
@dataclass(frozen=True, eq=False)
class Table(Placed):
    """The "score" of a query and a key: the weight that was given for them, (B, H, Q, K)."""

    weights: Tensor

    fresh = False

    def __post_init__(self) -> None:
        if self.weights.ndim != 4 or not self.weights.is_floating_point():
            told = f"{self.weights.dtype} {tuple(self.weights.shape)}"
            raise ValueError(f"given weights are floating numbers (batch, heads, queries, keys); got {told}")

    @property
    def name(self) -> str:
        return "given"

    def block(self, q_BHQD: Tensor, k_BGKE: Tensor, at: tuple[slice, slice, Picked, Picked]) -> Tensor:
        batch, heads, rows, columns = at
        self._check(q_BHQD, k_BGKE)
        found = self.weights[batch, heads][:, :, rows][..., columns]
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def points(self, q_BHQD: Tensor, k_BGKE: Tensor, at: tuple[Tensor, ...]) -> Tensor:
        self._check(q_BHQD, k_BGKE)
        found = self.weights[at]
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def _check(self, q_BHQD: Tensor, k_BGKE: Tensor) -> None:
        wanted = (*q_BHQD.shape[:3], k_BGKE.shape[2])
        if self.weights.shape != wanted:
            raise ValueError(f"given weights must be {wanted}, as the call is; got {tuple(self.weights.shape)}")

    def to(self, device: Any) -> Table:
        return Table(self.weights.to(device))
