"""Normalisers that choose keys: the best one, or the k best.

The statistic holds *which* keys those are, not at what score they lie: a score computed again in a block of another
shape may round otherwise, and a key must not come and go with it. Of keys with equal scores the first is chosen.

Axes: b batch, h heads, R rows (some queries), C columns (some keys), S = 2 or 1 + k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..describe import describable
from ..shapes import Picked, indices, is_traced, is_tracked
from .base import Blocks, Normalizer, lead, spoil
from .soft import Softmax

__all__ = ["Hard", "TopKSoftmax"]


@describable
@dataclass(frozen=True)
class Hard(Normalizer):
    """Weight 1 on the key with the largest score, the first of several (hard attention, Xu et al. 2015).

    Its derivative is 0 everywhere; with `straight_through` it is that of a softmax instead (Bengio et al. 2013). The
    statistic is the key's index and the row's log-sum-exp.
    """

    straight_through: bool = False

    means: ClassVar[str] = "index of the key, then log-sum-exp"

    @property
    def name(self) -> str:
        return "hard"

    @property
    def numbers(self) -> int:  # type: ignore[override]
        return 2

    def statistic(
        self, blocks: Blocks, empty: Float[Tensor, "b h R"], heads: Any = slice(None)
    ) -> Float[Tensor, "b h R 2"]:
        top, best = torch.full_like(empty, -torch.inf), torch.full_like(empty, -torch.inf)

        def seen() -> Blocks:
            nonlocal top, best
            for columns, s in blocks:
                peak, place = s.detach().max(dim=-1)
                better = peak > top
                best = torch.where(better, indices(columns, s.device)[place].to(best.dtype), best)
                top = torch.where(better, peak.to(top.dtype), top)
                yield columns, s

        lse = Softmax().statistic(seen(), empty)
        best = torch.where(torch.isnan(lse.detach()), torch.nan, best)
        return torch.stack([best, lse], dim=-1)

    def weights(
        self, s: Float[Tensor, "b h R C"], statistic: Float[Tensor, "b h R 2"], columns: Picked = slice(0, 0)
    ) -> Float[Tensor, "b h R C"]:
        best = statistic[..., 0].detach()
        w = (indices(columns, s.device) == best[..., None]).to(s.dtype)
        if is_tracked(s, statistic):
            soft = Softmax().weights(s, statistic[..., 1])
            w = w + (soft - soft.detach()) * (1.0 if self.straight_through else 0.0)
        return spoil(w, statistic)

    def dense(self, s_BHQK: Float[Tensor, "B H Q K"]) -> Float[Tensor, "B H Q K"]:
        hard = torch.nn.functional.one_hot(s_BHQK.argmax(-1), s_BHQK.shape[-1]).to(s_BHQK.dtype)
        soft = torch.softmax(s_BHQK, dim=-1)
        return hard + (soft - soft.detach()) * (1.0 if self.straight_through else 0.0)


@describable
@dataclass(frozen=True)
class TopKSoftmax(Normalizer):
    """Softmax over the k largest scores of each row, 0 elsewhere (Gupta et al. 2021, "Memory-efficient transformers").

    Where the k-th largest score occurs again, the first keys that have it are kept. The statistic is the log-sum-exp of
    the k, then their indices.
    """

    k: int

    means: ClassVar[str] = "log-sum-exp of the k largest scores, then their keys' indices"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError("k must be at least 1")

    @property
    def name(self) -> str:
        return f"softmax of the {self.k} largest"

    @property
    def numbers(self) -> int:  # type: ignore[override]
        return 1 + self.k

    def statistic(
        self, blocks: Blocks, empty: Float[Tensor, "b h R"], heads: Any = slice(None)
    ) -> Float[Tensor, "b h R S"]:
        best = empty.new_full((*empty.shape, self.k), -torch.inf)
        where = torch.full_like(best, -1)
        dtype = None
        for columns, s in blocks:
            if s.shape[-1] == 0:
                continue
            dtype = s.dtype
            place = largest(s.detach(), self.k)
            found = s.gather(-1, place), indices(columns, s.device)[place].to(where.dtype)
            both = torch.cat([best.to(s.dtype), found[0]], -1), torch.cat([where, found[1]], -1)
            place = largest(both[0].detach(), self.k)
            best, where = both[0].gather(-1, place), both[1].gather(-1, place)
        if dtype is None:
            return torch.cat([torch.full_like(empty, -torch.inf)[..., None], where], -1)
        lse = Softmax().statistic([(slice(0, self.k), best)], empty)
        return torch.cat([lse[..., None], where], -1)

    def weights(
        self, s: Float[Tensor, "b h R C"], statistic: Float[Tensor, "b h R S"], columns: Picked = slice(0, 0)
    ) -> Float[Tensor, "b h R C"]:
        if s.shape[-1] == 0:
            return s
        kept = _kept(statistic[..., 1:].detach(), columns, s)
        w = Softmax().weights(s.masked_fill(~kept, -torch.inf), lead(statistic))
        return spoil(w, statistic)

    def dense(self, s_BHQK: Float[Tensor, "B H Q K"]) -> Float[Tensor, "B H Q K"]:
        rank = s_BHQK.detach().argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
        return torch.softmax(s_BHQK.masked_fill(rank >= self.k, -torch.inf), dim=-1)


def largest(s: Float[Tensor, "b h R C"], k: int) -> Tensor:
    """Places of the k largest of each row, all if there are fewer, in ascending order; of equal ones the first."""
    if s.shape[-1] <= k:
        return torch.arange(s.shape[-1], device=s.device).expand(s.shape)
    if not is_traced():
        values, places = s.topk(k, dim=-1, sorted=False)
        least = values.amin(-1, keepdim=True)
        fits = ((s >= least).sum(-1) == k) | (least[..., 0] == -torch.inf)
        if bool(fits.all()):  # no tie between the last one kept and one left out
            return places.sort(dim=-1).values
    return s.sort(dim=-1, descending=True, stable=True).indices[..., :k].sort(dim=-1).values


def _kept(where: Float[Tensor, "b h R k"], columns: Picked, s: Tensor) -> Bool[Tensor, "b h R C"]:
    """Which columns of a block are among the indices `where`."""
    n = s.shape[-1]
    if isinstance(columns, slice):
        local = where.to(torch.int64) - columns.start
        local = torch.where((local >= 0) & (local < n), local, n)
        flags = torch.zeros(*s.shape[:-1], n + 1, dtype=torch.bool, device=s.device)
        return flags.scatter(-1, local, torch.ones_like(local, dtype=torch.bool))[..., :n]
    asked = columns.to(where.device, where.dtype).expand(s.shape).contiguous()
    ordered = where.sort(dim=-1).values
    place = torch.searchsorted(ordered, asked).clamp(max=where.shape[-1] - 1)
    return ordered.gather(-1, place) == asked
