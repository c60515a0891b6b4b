"""Normalisers: from scores to weights.

A normaliser builds one number per row from blocks of scores, then gives the weights of any block from it. That
split is what lets a single tile be computed exactly without the rest of the matrix.

Masked scores are -inf. **A row that may see no key has the statistic -inf and weights 0**: `safe` is the one place
that decides this.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .describe import describable
from .shapes import is_tracked, sum_dtype

__all__ = ["Normalizer", "Softmax", "resolve", "safe", "softmax"]


def safe(x: Tensor) -> Tensor:
    """-inf -> 0, so that `exp(score - x)` of an empty row is exp(-inf - 0) = 0 and not NaN."""
    return torch.where(x == -torch.inf, torch.zeros_like(x), x)


@describable
@dataclass(frozen=True, eq=False)
class Softmax:
    """Softmax over the keys. `sinks` (H,) are extra logits that take a share and read nothing (GPT-OSS, 2025)."""

    sinks: Tensor | None = None

    @property
    def name(self) -> str:
        return "softmax" if self.sinks is None else "softmax with sinks"

    def statistic(
        self, blocks: Iterable[Tensor], empty: Float[Tensor, "b h R"], heads: Any = slice(None)
    ) -> Float[Tensor, "b h R"]:
        """Log-sum-exp of the rows, natural log, from blocks of scores (b, h, R, C_i) -> (b, h, R).

        `empty` (b, h, R) gives shape, dtype (that of sums, see `shapes.sum_dtype`) and device, for rows with no block
        at all; `heads` selects these blocks' heads out of `sinks`. Streaming as in Milakov & Gimelshein (2018).
        """
        peak, total = torch.full_like(empty, -torch.inf), torch.zeros_like(empty)
        if self.sinks is not None:
            sinks = self.sinks.to(empty.device, empty.dtype)[heads].reshape(1, -1, 1).expand_as(empty)
            peak = sinks.detach()
            total = torch.exp(sinks - safe(peak))
        for s in blocks:
            top = s.detach().amax(-1)
            new = torch.maximum(peak, top.to(peak.dtype))
            part = _exp(s - safe(top)[..., None]).sum(-1).to(total.dtype)
            total = total * torch.exp(peak - safe(new)) + part * torch.exp(safe(top).to(peak.dtype) - safe(new))
            peak = new
        nothing = total == 0
        lse = safe(peak) + torch.log(torch.where(nothing, torch.ones_like(total), total))
        return torch.where(nothing, torch.full_like(lse, -torch.inf), lse)

    def rows(
        self, s: Float[Tensor, "b h R C"], heads: Any = slice(None)
    ) -> tuple[Float[Tensor, "b h R"], Float[Tensor, "b h R C"]]:
        """Statistic and weights of whole rows at once, so that their exponentials are taken only once."""
        d = sum_dtype(s.device)
        c = safe(s.detach().amax(-1))
        sinks = None if self.sinks is None else self.sinks.to(s.device, d)[heads].reshape(1, -1, 1)
        if sinks is not None:
            c = torch.maximum(c, safe(sinks.detach()).to(c.dtype))
        e = _exp(s - c[..., None])
        total = e.sum(-1).to(d)
        if sinks is not None:
            total = total + torch.exp(sinks - c.to(d))
        nothing = total == 0
        total = torch.where(nothing, torch.ones_like(total), total)
        lse = torch.where(nothing, torch.full_like(total, -torch.inf), c.to(d) + torch.log(total))
        return lse, _times(e, total.reciprocal().to(s.dtype)[..., None])

    def weights(self, s: Float[Tensor, "b h R C"], statistic: Float[Tensor, "b h R"]) -> Float[Tensor, "b h R C"]:
        """Scores (b, h, R, C) and the rows' statistic (b, h, R) -> weights (b, h, R, C).

        exp(s - c) exp(c - statistic), c the block's own row maximum: s - c rounds less than s - statistic would.
        """
        if s.shape[-1] == 0:
            return s
        top, lse = s.detach().amax(-1), safe(statistic)
        c = torch.where(top == -torch.inf, lse.detach().to(s.dtype), top)
        log_share = c.to(lse.dtype) - lse
        log_share = log_share - log_share.detach().clamp(min=0)  # other blocks round otherwise; a weight is 1 at most
        share = torch.exp(log_share).to(s.dtype)[..., None]
        return _times(_exp(s - c[..., None]), share)


def _exp(fresh: Tensor) -> Tensor:
    """exp of a tensor nobody else holds."""
    return torch.exp(fresh) if is_tracked(fresh) else fresh.exp_()


def _times(fresh: Tensor, factor: Tensor) -> Tensor:
    """A product with a tensor nobody else holds."""
    return fresh * factor if is_tracked(fresh, factor) else fresh.mul_(factor)


Normalizer = Softmax


def softmax(sinks: Tensor | None = None) -> Softmax:
    """Softmax; `sinks` is one learned logit per query head, shape (H,)."""
    return Softmax(sinks)


def resolve(normalizer: str | Normalizer, heads: int) -> Normalizer:
    """The normaliser for a name or an object.

    Raises:
        ValueError: an unknown name, or sinks that are not one per head.
    """
    if isinstance(normalizer, str):
        if normalizer != "softmax":
            raise ValueError(f"unknown normalizer {normalizer!r}; expected 'softmax' or one of fv.normalizers")
        return Softmax()
    if not isinstance(normalizer, Softmax):
        raise ValueError(f"normalizer must be 'softmax' or one of fv.normalizers; got {type(normalizer).__name__}")
    if normalizer.sinks is not None and tuple(normalizer.sinks.shape) != (heads,):
        raise ValueError(f"sinks must have one logit per head, ({heads},); got {tuple(normalizer.sinks.shape)}")
    return normalizer
