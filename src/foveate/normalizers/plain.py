"""Normalisers without exponentials over the row: each score by its row's plain sum, or each score by itself.

Axes: b batch, h heads, R rows (some queries), C columns (some keys), H all heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..describe import describable
from ..shapes import Geometry, Picked
from .base import Blocks, Normalizer, safe, top_of

__all__ = ["Proportional", "Sigmoid"]


@describable
@dataclass(frozen=True)
class Proportional(Normalizer):
    """s / sum(s): what linear attention does with its scores (Katharopoulos et al. 2020, eq. 3).

    Scores must not be negative, or weights and the statistics of a map mean nothing; a masked one counts as 0. A row
    whose scores are all 0 has weights 0. The statistic is the sum.
    """

    means: ClassVar[str] = "sum of the scores"

    @property
    def name(self) -> str:
        return "proportional"

    def statistic(
        self, blocks: Blocks, empty: Float[Tensor, "b h R"], heads: Any = slice(None)
    ) -> Float[Tensor, "b h R"]:
        total, seen = torch.zeros_like(empty), torch.zeros_like(empty, dtype=torch.bool)
        for _, s in blocks:
            total = total + safe(s).sum(-1).to(total.dtype)
            seen = seen | (s.detach() != -torch.inf).any(-1)
        total = torch.where(total == torch.inf, torch.nan, total)
        return torch.where(seen, total, torch.full_like(total, -torch.inf))

    def weights(
        self, s: Float[Tensor, "b h R C"], statistic: Float[Tensor, "b h R"], columns: Picked = slice(0, 0)
    ) -> Float[Tensor, "b h R C"]:
        total = safe(statistic)
        total = torch.where(total == 0, torch.ones_like(total), total)
        return safe(s) * total.reciprocal().to(s.dtype)[..., None]

    def dense(self, s_BHQK: Float[Tensor, "B H Q K"]) -> Float[Tensor, "B H Q K"]:
        s_BHQK = s_BHQK.masked_fill(s_BHQK == -torch.inf, 0.0)
        total_BHQ1 = s_BHQK.sum(-1, keepdim=True)
        return s_BHQK / total_BHQ1.masked_fill(total_BHQ1 == 0, 1.0)


@describable
@dataclass(frozen=True, eq=False)
class Sigmoid(Normalizer):
    """1 / (1 + exp(-(s + bias))), each key by itself: a row's weights need not sum to 1 (Ramapuram et al. 2024).

    `bias` is a number, one per head (H,), or "-log n", minus the log of the number of keys K, as that paper advises.
    The statistic is -bias, the score at which a weight is 1/2.
    """

    bias: float | str | Tensor = 0.0

    means: ClassVar[str] = "score of weight 1/2"

    def __post_init__(self) -> None:
        if isinstance(self.bias, str) and self.bias != "-log n":
            raise ValueError(
                f"the bias of a sigmoid must be a number, a tensor (heads,) or '-log n'; got {self.bias!r}"
            )

    @property
    def name(self) -> str:
        return "sigmoid"

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.bias,) if isinstance(self.bias, Tensor) else ()

    def settle(self, g: Geometry) -> Sigmoid:
        if isinstance(self.bias, str):
            return replace(self, bias=-math.log(max(1, g.keys)))
        if isinstance(self.bias, Tensor) and tuple(self.bias.shape) not in ((), (g.heads,)):
            raise ValueError(f"a sigmoid's bias must be one per head, ({g.heads},); got {tuple(self.bias.shape)}")
        return self

    def statistic(
        self, blocks: Blocks, empty: Float[Tensor, "b h R"], heads: Any = slice(None)
    ) -> Float[Tensor, "b h R"]:
        top = top_of(blocks, empty)
        bias = self._bias(empty)
        bias = bias[heads].reshape(1, -1, 1) if bias.ndim else bias
        nan = torch.where(torch.isnan(top), top, 0.0)
        return torch.where(top == -torch.inf, top, nan - bias)

    def _bias(self, like: Tensor) -> Tensor:
        assert not isinstance(self.bias, str)
        return torch.as_tensor(self.bias, dtype=like.dtype, device=like.device)

    def weights(
        self, s: Float[Tensor, "b h R C"], statistic: Float[Tensor, "b h R"], columns: Picked = slice(0, 0)
    ) -> Float[Tensor, "b h R C"]:
        return torch.sigmoid(s - safe(statistic).to(s.dtype)[..., None])

    def log_weights(
        self, s: Float[Tensor, "b h R C"], statistic: Float[Tensor, "b h R"], weights: Float[Tensor, "b h R C"]
    ) -> Float[Tensor, "b h R C"]:
        return torch.nn.functional.logsigmoid(s - safe(statistic).to(s.dtype)[..., None])

    def dense(self, s_BHQK: Float[Tensor, "B H Q K"]) -> Float[Tensor, "B H Q K"]:
        return torch.sigmoid(s_BHQK + self._bias(s_BHQK).reshape(-1, 1, 1))
