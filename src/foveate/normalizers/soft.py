"""Softmax, its sinks and its temperature.

Axes: b batch, h heads, R rows (some queries), C columns (some keys), H all heads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from ..describe import describable
from ..shapes import Geometry, Picked, sum_dtype
from .base import Blocks, Normalizer, exp, safe, times

__all__ = ["Softmax", "Tempered"]


@describable
@dataclass(frozen=True, eq=False)
class Softmax(Normalizer):
    """exp(s) / sum exp(s) over the keys; the statistic is the log of that sum, natural log.

    `sinks` (H,) are extra logits that take a share and read nothing (GPT-OSS, 2025). A sink of 0 is "softmax off by
    one", exp(s) / (1 + sum exp(s)) (Miller 2023).
    """

    sinks: Tensor | None = None

    means: ClassVar[str] = "log-sum-exp"

    @property
    def name(self) -> str:
        return "softmax" if self.sinks is None else "softmax with sinks"

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return () if self.sinks is None else (self.sinks,)

    @property
    def has_sink(self) -> bool:
        return self.sinks is not None

    def settle(self, g: Geometry) -> Softmax:
        if self.sinks is None or tuple(self.sinks.shape) == (g.heads,):
            return self
        if tuple(self.sinks.shape) == ():
            return replace(self, sinks=self.sinks.expand(g.heads))
        raise ValueError(f"sinks must have one logit per head, ({g.heads},); got {tuple(self.sinks.shape)}")

    def statistic(
        self, blocks: Blocks, empty: Float[Tensor, "b h R"], heads: Any = slice(None)
    ) -> Float[Tensor, "b h R"]:
        """Streaming, as in Milakov & Gimelshein (2018)."""
        peak, total = torch.full_like(empty, -torch.inf), torch.zeros_like(empty)
        if self.sinks is not None:
            sinks = self.sinks.to(empty.device, empty.dtype)[heads].reshape(1, -1, 1).expand_as(empty)
            peak = sinks.detach()
            total = torch.exp(sinks - safe(peak))
        for _, s in blocks:
            top = s.detach().amax(-1)
            new = torch.maximum(peak, top.to(peak.dtype))
            part = exp(s - safe(top)[..., None]).sum(-1).to(total.dtype)
            total = total * torch.exp(peak - safe(new)) + part * torch.exp(safe(top).to(peak.dtype) - safe(new))
            peak = new
        nothing = total == 0
        lse = safe(peak) + torch.log(torch.where(nothing, torch.ones_like(total), total))
        return torch.where(nothing, torch.full_like(lse, -torch.inf), lse)

    def rows(
        self, s: Float[Tensor, "b h R C"], heads: Any = slice(None), columns: Picked = slice(0, 0)
    ) -> tuple[Float[Tensor, "b h R"], Float[Tensor, "b h R C"]]:
        """Both at once, so that exponentials are taken only once."""
        d = sum_dtype(s.device)
        c = safe(s.detach().amax(-1))
        sinks = None if self.sinks is None else self.sinks.to(s.device, d)[heads].reshape(1, -1, 1)
        if sinks is not None:
            c = torch.maximum(c, safe(sinks.detach()).to(c.dtype))
        e = exp(s - c[..., None])
        total = e.sum(-1).to(d)
        if sinks is not None:
            total = total + torch.exp(sinks - c.to(d))
        nothing = total == 0
        total = torch.where(nothing, torch.ones_like(total), total)
        lse = torch.where(nothing, torch.full_like(total, -torch.inf), c.to(d) + torch.log(total))
        return lse, times(e, total.reciprocal().to(s.dtype)[..., None])

    def weights(
        self, s: Float[Tensor, "b h R C"], statistic: Float[Tensor, "b h R"], columns: Picked = slice(0, 0)
    ) -> Float[Tensor, "b h R C"]:
        """exp(s - c) exp(c - statistic), c the block's own row maximum: s - c rounds less than s - statistic would."""
        if s.shape[-1] == 0:
            return s
        top, lse = s.detach().amax(-1), safe(statistic)
        c = torch.where(top == -torch.inf, lse.detach().to(s.dtype), top)
        log_share = c.to(lse.dtype) - lse
        log_share = log_share - log_share.detach().clamp(min=0)  # other blocks round otherwise; a weight is 1 at most
        share = torch.exp(log_share).to(s.dtype)[..., None]
        return times(exp(s - c[..., None]), share)

    def log_weights(
        self, s: Float[Tensor, "b h R C"], statistic: Float[Tensor, "b h R"], weights: Float[Tensor, "b h R C"]
    ) -> Float[Tensor, "b h R C"]:
        return s - safe(statistic).to(s.dtype)[..., None]

    def dense(self, s_BHQK: Float[Tensor, "B H Q K"]) -> Float[Tensor, "B H Q K"]:
        if self.sinks is None:
            return torch.softmax(s_BHQK, dim=-1)
        sink_BHQ1 = self.sinks.to(s_BHQK).reshape(1, -1, 1, 1).expand(*s_BHQK.shape[:3], 1)
        return torch.softmax(torch.cat([s_BHQK, sink_BHQ1], dim=-1), dim=-1)[..., :-1]


@describable
@dataclass(frozen=True, eq=False)
class Tempered(Normalizer):
    """Another normaliser on scores divided by `temperature`: above 1 it spreads the weights, below it sharpens them.

    The statistic is that of the divided scores. Sinks are logits of their own, not divided.
    """

    inner: Normalizer
    temperature: float

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError("temperature must be greater than 0")

    @property
    def name(self) -> str:
        return f"{self.inner.name} at temperature {self.temperature:g}"

    @property
    def means(self) -> str:  # type: ignore[override]
        return f"{self.inner.means} of scores divided by the temperature"

    @property
    def numbers(self) -> int | None:  # type: ignore[override]
        return self.inner.numbers

    @property
    def gathers(self) -> bool:  # type: ignore[override]
        return self.inner.gathers

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.inner.tensors

    @property
    def has_sink(self) -> bool:
        return self.inner.has_sink

    def settle(self, g: Geometry) -> Tempered:
        return replace(self, inner=self.inner.settle(g))

    def statistic(
        self, blocks: Blocks, empty: Float[Tensor, "b h R"], heads: Any = slice(None)
    ) -> Float[Tensor, "b h R *S"]:
        return self.inner.statistic(((columns, s / self.temperature) for columns, s in blocks), empty, heads)

    def rows(
        self, s: Float[Tensor, "b h R C"], heads: Any = slice(None), columns: Picked = slice(0, 0)
    ) -> tuple[Float[Tensor, "b h R *S"], Float[Tensor, "b h R C"]]:
        return self.inner.rows(s / self.temperature, heads, columns)

    def weights(
        self, s: Float[Tensor, "b h R C"], statistic: Float[Tensor, "b h R *S"], columns: Picked = slice(0, 0)
    ) -> Float[Tensor, "b h R C"]:
        return self.inner.weights(s / self.temperature, statistic, columns)

    def log_weights(
        self, s: Float[Tensor, "b h R C"], statistic: Float[Tensor, "b h R *S"], weights: Float[Tensor, "b h R C"]
    ) -> Float[Tensor, "b h R C"]:
        return self.inner.log_weights(s / self.temperature, statistic, weights)

    def dense(self, s_BHQK: Float[Tensor, "B H Q K"]) -> Float[Tensor, "B H Q K"]:
        return self.inner.dense(s_BHQK / self.temperature)
